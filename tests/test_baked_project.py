"""A baked project does what its README says: it is synced and its commands are run as a user would type them."""

import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib

import pytest
from pyarrow import feather
from taskfleet.terminal.registry import COMMANDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: What a command needs on its line, apart from settings.
OPERANDS = {
    "task": ["addition-task-000001"],
    "results": ["-o", "out.csv"],
    "retry": ["--failed"],
    "cancel": ["--all"],
    "move_queue": ["--to", "ledger"],
    "copy_queue": ["--to", "ledger"],
}


@pytest.fixture(scope="module")
def project(synced):
    """The project, which keeps what each test does to it."""
    return synced


@pytest.fixture(scope="module")
def example(project):
    """The sum that each of the 10,000 tasks must have."""
    tasks = json.loads((project / "tasks.json").read_text())
    return {task["task_id"]: task["data"]["num1"] + task["data"]["num2"] for task in tasks}


@pytest.fixture(scope="module")
def inserted(poe):
    """What the first insertion of the 10,000 tasks printed."""
    return poe("insert_tasks").stdout


@pytest.fixture(scope="module")
def worked(poe, inserted):
    """What the worker printed that did them."""
    return poe("launch_worker").stdout


@pytest.fixture
def settings_file(project):
    """Return a function that writes another settings file into the project and returns its name."""

    def write(job_id, *lines):
        (project / f"{job_id}.env").write_text("\n".join([f"JOB_ID={job_id}", *lines, ""]))
        return f"{job_id}.env"

    return write


def status(poe, *words):
    """Return the one JSON object that ``poe status --json`` prints."""
    return json.loads(poe("status", "--json", *words).stdout)


def test_uv_sync_makes_the_lock_file_that_workers_need(project):
    locked = {package["name"] for package in tomllib.loads((project / "uv.lock").read_text())["package"]}
    assert {"parallel-addition", "taskfleet", "poethepoet", "pytest"} <= locked


def test_poe_alone_lists_every_command_in_groups_with_a_line_of_help(project, poe):
    listed = poe(status=1).stdout  # poe's own exit code when it is told nothing to do
    own = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["poe"]
    included = tomllib.loads((project / own["include"]).read_text())["tool"]["poe"]
    groups = [*included["groups"].values(), *own["groups"].values()]
    assert sum(len(group["tasks"]) for group in groups) == len(COMMANDS) + 1
    for group in groups:
        assert group["heading"] in listed
        for name, command in group["tasks"].items():
            assert re.search(rf"^ +{name} +{re.escape(command['help'])}$", listed, re.MULTILINE), name


def test_an_image_has_what_a_worker_needs_and_no_more(project, tmp_path):
    """The step of the Dockerfile that installs packages, in a folder with what the steps before it copied."""
    for name in ("pyproject.toml", "uv.lock"):
        shutil.copy(project / name, tmp_path)
    shutil.copytree(project / "shared_lib", tmp_path / "shared_lib")
    dockerfile = (project / "Dockerfile").read_text()
    [step] = re.findall(r"^RUN (uv (?:.*\\\n)*.*)$", dockerfile, re.MULTILINE)

    def run(*words):
        environment = {name: os.environ[name] for name in ("PATH", "HOME")}
        environment |= {name: value for name, value in os.environ.items() if name.startswith("UV_")}
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("sh", "-c", step)
    names = {one["name"] for one in json.loads(run("uv", "pip", "list", "--format", "json"))}
    assert {"taskfleet", "python-dotenv"} <= names
    assert not {"pyarrow", "pandas", "tqdm", "pytest", "poethepoet"} & names


def test_the_project_s_own_tests_pass(poe):
    assert re.search(r"\b4 passed\b", poe("test").stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_takes_a_settings_file(poe, settings_file, command):
    shown = poe(command, "--help").stdout
    assert shown.startswith(f"usage: poe {command} [-e FILE] ")
    assert re.search(r"(?<![\w-])-e\b", shown)
    file = settings_file("wrong", "NONSENSE=1")
    refused = poe(command, "-e", file, *OPERANDS.get(command, ()), status=2)
    assert re.search(rf"^  - .*/{file}, line 2: unknown setting NONSENSE\.", refused.stderr, re.MULTILINE)
    assert refused.stdout == ""


def test_a_command_works_from_a_folder_below(project, poe):
    poe("settings", folder=project / "tests")


def test_inserting_says_how_many_tasks_there_are(inserted):
    assert "10,000" in inserted


def test_inserting_again_adds_nothing_and_says_so(poe, inserted):
    again = poe("insert_tasks").stdout
    assert re.search(r"\bnothing\b|\bno new\b|\balready\b", again.lower())
    assert status(poe)["total"] == 10_000


def test_the_status_is_one_documented_object(poe, worked):
    now = status(poe)
    assert {
        "job_id",
        "total",
        "counts",
        "failures",
        "rate_per_second",
        "eta_seconds",
        "durations_seconds",
    } <= now.keys()
    assert now["job_id"] == "parallel_addition"
    assert now["total"] == 10_000
    assert now["counts"] == {
        "waiting": 0,
        "pending": 0,
        "running": 0,
        "prefetched": 0,
        "succeeded": 10_000,
        "failed": 0,
        "killed": 0,
    }
    assert not any(now["failures"].values())


def test_the_status_is_also_for_people(poe, worked):
    assert "10,000" in poe("status").stdout


def test_the_results_are_the_ten_thousand_sums(project, poe, worked, example):
    poe("results", "-o", "results.feather")
    table = feather.read_table(project / "results.feather")
    assert {"task_id", "num1", "num2", "result_sum"} <= set(table.column_names)
    assert dict(zip(table["task_id"].to_pylist(), table["result_sum"].to_pylist(), strict=True)) == example


def test_one_task_is_shown_whole(poe, worked, example):
    shown = poe("task", "addition-task-000001").stdout
    assert str(example["addition-task-000001"]) in shown


def test_the_feather_table_holds_the_same_tasks(project, poe, settings_file, example):
    file = settings_file("from_feather", "TASK_TABLE=tasks.feather")
    poe("insert_tasks", "-e", file, "--limit", "200")
    poe("launch_worker", "-e", file)
    poe("results", "-e", file, "-o", "results.csv")
    header, *rows = [line.split(",") for line in (project / "results.csv").read_text().replace('"', "").splitlines()]
    sums = {row[header.index("task_id")]: int(row[header.index("result_sum")]) for row in rows}
    assert sums == dict(list(example.items())[:200])


def test_a_task_factory_in_place_of_a_table(project, poe, settings_file):
    file = settings_file("from_factory", "TASK_TABLE=task:make_tasks")
    poe("insert_tasks", "-e", file)
    poe("launch_worker", "-e", file)
    assert status(poe, "-e", file)["counts"]["succeeded"] == 100
    poe("results", "-e", file, "-o", "results.factory.feather")
    for row in feather.read_table(project / "results.factory.feather").to_pylist():
        assert row["result_sum"] == row["num1"] + row["num1"] ** 2


def test_what_is_done_already_is_filtered_out(project, poe, settings_file):
    file = settings_file("filtered", "TASK_TABLE=task:make_tasks", "OUTPUT_PATH=results")
    (project / "results").mkdir()
    (project / "results/made-task-007.txt").write_text("56\n")
    poe("insert_tasks", "-e", file)
    assert status(poe, "-e", file)["total"] == 99
    poe("launch_worker", "-e", file)
    assert len(list((project / "results").glob("*.txt"))) == 100


def test_a_variable_of_the_user_s_own_reaches_the_tasks(poe, settings_file):
    file = settings_file(
        "troubled", "TASK_TABLE=task:make_tasks", "RETRIES_ON_EXCEPTION=0", "export ADDITION_EXCEPTION_PROBABILITY=1"
    )
    poe("insert_tasks", "-e", file, "--limit", "3")
    poe("launch_worker", "-e", file)
    now = status(poe, "-e", file)
    assert now["counts"]["failed"] == 3
    assert now["failures"]["exception"] == 3


def test_every_command_of_the_readme_works(project, run, worked):
    """Those for Docker need its daemon and are left out."""
    blocks = re.findall(r"```bash\n(.*?)```", (project / "README.md").read_text(), re.DOTALL)
    commands = [line for line in "".join(blocks).splitlines() if not line.startswith("docker ")]
    assert len(commands) >= 7
    for command in commands:
        run("bash", "-c", command, folder=project)


def test_the_example_of_a_flow(project, run, uv, poe):
    """Run again it has nothing to do, and says the same; its job is one for the commands."""
    first = run(uv, "run", "python", "flow.py", folder=project)
    assert re.fullmatch(r"pi is about 3\.14\d\n", first.stdout)
    again = run(uv, "run", "python", "flow.py", folder=project)
    assert again.stdout == first.stdout
    assert "Worker" not in again.stderr
    assert status(poe, "--job-id", "pi")["counts"]["succeeded"] == 101


def test_the_readme_names_no_command_that_is_not_there(project):
    named = re.findall(r"uv run poe ([a-z_]+)", (project / "README.md").read_text())
    assert set(named) <= {*COMMANDS, "test"}


def test_uv_accepts_the_most_hostile_answers(bake_in, tmp_path, run, uv):
    text = """It's "quoted" \\ {{ 7 * 7 }} $(touch executed)\n[project.scripts]\n\tx\x07\x7f \U0001f680"""
    project = bake_in(tmp_path, project_slug="hostile", project_name=text, description=text, author_name=text)
    run(uv, "lock", folder=project)
    assert not list(tmp_path.rglob("executed"))


@pytest.mark.parametrize("slug", ["google", "yaml", "dateutil", "attrs", "grpc", "pytz", "uv_build", "boto3_tasks"])
def test_a_project_may_be_named_like_a_module_that_no_distribution_it_installs_is_named_like(
    bake_in, tmp_path, run, uv, slug
):
    """Only names of distributions stand in each other's way: nothing is imported by the name of the project's folder."""
    run(uv, "lock", folder=bake_in(tmp_path, project_slug=slug))


@pytest.fixture
def copy(project, tmp_path, run, uv):
    """The project in another folder, with an environment of its own."""
    folder = tmp_path / "copy"
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns(".venv", "jobs", ".git"))
    run(uv, "sync", folder=folder)
    return folder


def test_the_default_project_has_no_cloud_sdk(project):
    modules = {path.name for path in project.glob(".venv/lib/python*/site-packages/*")}
    assert not modules & {"botocore", "boto3", "google", "grpc", "psycopg"}


@pytest.mark.parametrize(
    ("words", "extra", "module"),
    [
        (["show_queue", "--queue-url", "sqs://one"], "aws", "botocore"),
        (["show_queue", "--queue-url", "postgresql://me@127.0.0.1:1/one"], "postgresql", "psycopg"),
        (["list_regions", "--provider", "gcp"], "gcp", "google"),
    ],
)
def test_the_command_in_the_message_adds_what_is_missing(copy, run, uv, words, extra, module):
    said = run(uv, "run", "poe", *words, folder=copy, status=2).stderr
    command = f"uv add 'taskfleet[{extra}]'"
    assert said.endswith(f" Add it to the project: {command}\n")
    before = tomllib.loads((copy / "pyproject.toml").read_text())
    run("bash", "-c", command, folder=copy)
    after = tomllib.loads((copy / "pyproject.toml").read_text())
    [dependency] = after["project"].pop("dependencies")
    del before["project"]["dependencies"]
    assert after == before
    assert set(re.findall(r"\w+", dependency)) == {"taskfleet", "pandas", extra}
    assert list(copy.glob(f".venv/lib/python*/site-packages/{module}"))
    # there is no such service here: a different error, which is not about packages
    done = subprocess.run([uv, "run", "poe", *words], cwd=copy, env=clean_of_clouds(), capture_output=True, text=True)
    assert "\nerror: " in done.stderr
    assert "uv add" not in done.stderr


def clean_of_clouds():
    """An environment without an account at any cloud."""
    return {name: os.environ[name] for name in ("PATH", "HOME")} | {
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_GCE_CHECK": "true",
    }


def test_without_pandas_only_filtering_is_missing(copy, run, uv):
    text = (copy / "pyproject.toml").read_text()
    (copy / "pyproject.toml").write_text(text.replace("taskfleet[pandas]", "taskfleet"))
    run(uv, "sync", folder=copy)
    assert not list(copy.glob(".venv/lib/python*/site-packages/pandas"))
    said = run(uv, "run", "poe", "insert_tasks", folder=copy, status=2).stderr
    assert "\nerror: filter_tasks needs the package pandas" in said
    with (copy / "task.py").open("a") as file:
        file.write("\n\ndel filter_tasks\n")
    assert "10,000" in run(uv, "run", "poe", "insert_tasks", folder=copy).stdout


def test_nothing_that_git_should_keep_is_left_lying_about(project, run, worked):
    """Ledgers, results and caches are ignored; uv.lock and one's own settings files are kept."""
    run("git", "init", "-q", folder=project)
    listed = run("git", "ls-files", "-o", "--exclude-standard", folder=project).stdout.splitlines()
    assert "uv.lock" in listed
    assert not [path for path in listed if path.startswith(("jobs/", ".venv/", "results")) or "cache" in path]


def suggested(printed):
    """Return the commands that a text suggests, each as a list of words without the comment behind it."""
    return [shlex.split(one) for one in re.findall(r"(?m)^(?:Next:|     ) (uv run poe .*?)(?:  \(.*\))?$", printed)]


def test_what_a_command_suggests_works_as_printed_and_keeps_the_settings(project, settings_file, run):
    """From one suggestion to the next, through all that a user without machines is ever told to type."""
    (project / "few.json").write_text(json.dumps([{"num1": n, "num2": 1} for n in range(6)]))
    file = settings_file(
        "few", "TASK_TABLE=few.json", "RETRIES_ON_EXCEPTION=0", "export ADDITION_EXCEPTION_PROBABILITY=1"
    )
    seen = []

    def follow(command, *, status=0):
        assert command[:3] == ["uv", "run", "poe"]
        assert command[command.index("-e") + 1] == file, command
        done = run(*command, folder=project, status=status)
        seen.append(command[3])
        return suggested(done.stdout + done.stderr)

    [work] = follow(["uv", "run", "poe", "insert_tasks", "-e", file])
    list_failed, retry, results_of_failures = follow(work)
    show, retry_too = follow(list_failed)
    assert retry == retry_too
    id_at = show.index("ID")
    follow(
        [
            *show[:id_at],
            json.loads(run("uv", "run", "poe", "tasks", "-e", file, "--json", folder=project).stdout.splitlines()[0])[
                "task_id"
            ],
        ]
    )
    settings = project / file
    settings.write_text(settings.read_text().replace("PROBABILITY=1", "PROBABILITY=0"))
    [work] = follow(retry)
    [results] = follow(work)
    assert results == results_of_failures
    assert follow(results) == []
    assert (project / "results.feather").exists()
    [results_too] = follow(["uv", "run", "poe", "status", "-e", file])
    assert results == results_too
    assert seen == ["insert_tasks", "launch_worker", "tasks", "task", "retry", "launch_worker", "results", "status"]
    (project / "results.feather").unlink()


def test_a_flag_is_kept_where_the_suggested_command_has_it(poe, settings_file):
    file = settings_file("kept", "TASK_TABLE=tasks.json")
    printed = poe("insert_tasks", "-e", file, "--job-id", "kept-2", "--limit", "3").stdout
    assert f"Next: uv run poe launch_worker -e {file} --job-id kept-2" in printed
    assert "--limit" not in printed
    printed = poe("plan", "-e", file, "--machines", "1-2", "--tasks", "5").stdout
    assert "No machine was launched" in printed


def test_poe_is_suggested_where_poe_was_typed(project, run, settings_file):
    file = settings_file("typed", "TASK_TABLE=tasks.json")
    done = run(project / ".venv" / "bin" / "poe", "insert_tasks", "-e", file, "--limit", "1", folder=project)
    assert f"Next: poe launch_worker -e {file}" in done.stdout
