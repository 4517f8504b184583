"""What a bake gives for which answers, and which answers are refused."""

import json
import keyword
import os
import re
import subprocess
import sys
import tomllib

import pytest
from cookiecutter.exceptions import FailedHookException
from docker.utils import exclude_paths
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment
from pyarrow import feather
from taskfleet.redaction import is_secret_file
from taskfleet.terminal.registry import COMMANDS

from local_extensions import TemplateSupport, markdown, slug_refusal, toml, valid_slug
from tests.terminal import Terminal

ALWAYS = {
    ".gitignore",
    "README.md",
    "config/pool.env",
    "config/task.env",
    "insert_tasks.py",
    "pyproject.toml",
    "run.py",
    "task.py",
    "tasks.feather",
    "tasks.json",
    "tests/test_task.py",
}
SECRET_FILES = [
    *(
        "a/.aws/config",
        "a/.azure/x",
        "a/.config/gcloud/x",
        ".docker/config.json",
        ".gnupg/x",
        ".kube/config",
        ".oci/x",
        "a/.ssh/x",
    ),
    *(
        ".env",
        "config/.env",
        "config/.env.production",
        "a.jks",
        "a.kdbx",
        "a.key",
        "a.keystore",
        "a.p12",
        "a/b.pem",
        "a.pfx",
        "a.ppk",
    ),
    *(
        "id_dsa",
        "id_ecdsa",
        "id_ecdsa_sk",
        "id_ed25519",
        "id_ed25519_sk",
        "keys/id_rsa",
        ".boto",
        ".dockercfg",
        ".git-credentials",
    ),
    *(".htpasswd", ".netrc", ".pgpass", ".pypirc", ".s3cfg", "_netrc", "a/application_default_credentials.json"),
    *(
        "client_secret.json",
        "client_secret_1.json",
        "client_secrets.json",
        "credentials",
        "a/credentials.json",
        "credentials.csv",
    ),
    "credentials.ini",
]
SCRIPTS = ("task.py", "insert_tasks.py", "run.py")

COMBINATIONS = {
    "nothing answered": ({}, {"Dockerfile", ".dockerignore"}),
    "with docker": ({"use_docker": True}, {"Dockerfile", ".dockerignore"}),
    "without docker": ({"use_docker": False}, set()),
    "with a flow": ({"use_flow": True}, {"Dockerfile", ".dockerignore", "flow.py"}),
    "everything answered": (
        {
            "project_name": "Star Catalogue",
            "project_slug": "stars2",
            "description": "Measures stars.",
            "author_name": "A. Person",
            "python_version": "3.13",
            "provider": "aws",
            "use_docker": False,
            "use_flow": True,
        },
        {"flow.py"},
    ),
}

HOSTILE = [
    'It\'s "quoted", \'twice\' and """thrice"""',
    "back\\slashes \\n \\",
    "{{ 7 * 7 }} {% raw %} {# gone #} {{ cookiecutter.nothing }}",
    '{{ cycler.__init__.__globals__.os.system("touch executed") }}',
    "$(touch executed) `touch executed` ; touch executed",
    "two\nlines\r\nand\ttabs\n",
    'name"\n[project.scripts]\nx = "y',
    "}}]\n'''\n\"\"\"\nraise SystemExit",
    "naïve 日本語 \U0001f680 \u202e",
    "bell \x07, escape \x1b[31m, delete \x7f",
    "# heading | **bold** [link](x) <script>alert(1)</script> <!-- &amp;",
    "- list\n1. of\n=====",
    "--help",
    "None",
]

#: Refused project names, each with words of the reason.
REFUSED = {
    "9lives": "lower-case letters",
    "My_Tasks": "lower-case letters",
    "a-b": "lower-case letters",
    "a b": "lower-case letters",
    "_private": "lower-case letters",
    "tail_": "lower-case letters",
    "ünder": "lower-case letters",
    "a\nb": "lower-case letters",
    "{{ 7 }}": "lower-case letters",
    "a/b": "lower-case letters",
    "../escaped": "lower-case letters",
    "..": "lower-case letters",
    "": "empty",
    "a" * 300: "longer than 80",
    "class": "keyword of Python",
    "json": "standard library",
    "random": "standard library",
    "taskfleet": "every project uses",
    "task": "every project uses",
    "run": "every project uses",
    "flow": "every project uses",
    "test": "every project uses",
    "tests": "every project uses",
    "insert_tasks": "every project uses",
    "pandas": "a project may install",
    "botocore": "a project may install",
    "google_auth": "a project may install",
    "psycopg_binary": "a project may install",
    "python__dateutil": "a project may install",
    "tzdata": "a project may install",
    "pytest": "a project may install",
}


def files(project):
    """Return the paths of all files of a project, and the text of those that are text and not the library's."""
    paths = {file.relative_to(project).as_posix() for file in project.rglob("*") if file.is_file()}
    own = {path for path in paths if not path.startswith("shared_lib/")}
    return paths, {path: (project / path).read_text() for path in own if not path.endswith(".feather")}


def settings(project):
    return tomllib.loads((project / "pyproject.toml").read_text())


@pytest.fixture
def refuse(bake, capfd, tmp_path):
    """Return a function that bakes answers which must be refused, and returns the lines that say why."""

    def _refuse(**answers):
        with pytest.raises(FailedHookException) as refusal:
            bake(**answers)
        lines = [*capfd.readouterr().err.splitlines(), *str(refusal.value).splitlines()]
        assert set(os.listdir(tmp_path)) <= {"cookiecutterrc", "out", "replay"}
        assert not os.listdir(tmp_path / "out")
        return [line for line in lines if line.startswith("error:")]

    return _refuse


@pytest.fixture(scope="module")
def example(template):
    """The example's tasks as data."""
    return json.loads((template / "{{cookiecutter.project_slug}}/tasks.json").read_text())


class TestFiles:
    @pytest.mark.parametrize(("answers", "optional"), COMBINATIONS.values(), ids=COMBINATIONS)
    def test_each_combination_of_answers_gives_exactly_these_files(self, bake, template, answers, optional):
        paths, _ = files(bake(**answers))
        library = {path for path in paths if path.startswith("shared_lib/")}
        assert paths - library == ALWAYS | optional
        assert {"shared_lib/pyproject.toml", "shared_lib/README.md", "shared_lib/src/taskfleet/__init__.py"} <= library

    @pytest.mark.parametrize("use_flow", [False, True])
    def test_the_next_commands_are_those_of_the_files_that_were_made(self, bake, capfd, use_flow):
        bake(use_flow=use_flow)
        assert ("uv run python flow.py" in capfd.readouterr().out) is use_flow

    def test_the_library_comes_whole_and_without_its_tests(self, bake, published):
        copied, _ = files(bake())
        library = published / "shared_lib"
        wanted = {
            path.relative_to(published).as_posix()
            for path in library.rglob("*")
            if path.is_file() and path.relative_to(library).parts[0] != "tests"
        }
        assert {path for path in copied if path.startswith("shared_lib/")} == wanted

    @pytest.mark.parametrize(("answers", "optional"), COMBINATIONS.values(), ids=COMBINATIONS)
    def test_nothing_of_the_template_language_is_left(self, bake, answers, optional):
        for path, text in files(bake(**answers))[1].items():
            for residue in ("{{", "{%", "{#", "cookiecutter"):
                assert residue not in text, path

    @pytest.mark.parametrize(("answers", "optional"), COMBINATIONS.values(), ids=COMBINATIONS)
    def test_the_scripts_are_the_same_for_every_answer_and_fit_on_a_screen(self, bake, template, answers, optional):
        project = bake(**answers)
        for name in SCRIPTS:
            text = (project / name).read_text()
            assert text == (template / "{{cookiecutter.project_slug}}" / name).read_text()
            assert len(text.splitlines()) <= 40, name
            assert max(map(len, text.splitlines())) <= 120, name

    @pytest.mark.parametrize(("answers", "optional"), COMBINATIONS.values(), ids=COMBINATIONS)
    def test_texts_end_with_one_newline_and_lines_with_no_blank(self, bake, answers, optional):
        for path, text in files(bake(**answers))[1].items():
            assert text.endswith("\n"), path
            assert not text.endswith("\n\n"), path
            assert "\n\n\n\n" not in text, path
            assert all(line == line.rstrip() for line in text.splitlines()), path

    def test_a_linter_s_cache_in_the_template_does_not_reach_the_project(
        self, published, run, cookiecutter_command, tmp_path
    ):
        """Such files may be binary, which cookiecutter cannot render."""
        folder = tmp_path / "template"
        subprocess.run(["cp", "-r", published, folder], check=True)
        for cache in (".ruff_cache", "tests/__pycache__"):
            (folder / "{{cookiecutter.project_slug}}" / cache).mkdir()
            (folder / "{{cookiecutter.project_slug}}" / cache / "x").write_bytes(b"{{\xff\x00")
        run(*cookiecutter_command, "-o", tmp_path, folder, folder=tmp_path, HOME=tmp_path)
        assert not [path for path in files(tmp_path / "my_tasks")[0] if "cache" in path]


class TestAnswers:
    def test_there_are_at_most_eight_questions_each_with_a_prompt(self, questions):
        asked = {name for name in questions if not name.startswith("_")}
        assert len(asked) <= 8
        assert questions["__prompts__"].keys() == asked
        for name, prompt in questions["__prompts__"].items():
            if isinstance(questions[name], list):
                assert prompt.keys() == {"__prompt__", *questions[name]}

    def test_enter_alone_answers_every_question(self, template, run, tmp_path, questions):
        """Also a hostile text typed at a question stays what it is."""
        rest = "\n" * (len(questions) - 1)
        command = (sys.executable, "-m", "cookiecutter", "-o", tmp_path, template)
        run(*command, folder=tmp_path, HOME=tmp_path, typed=f"\n\n{HOSTILE[3]}{rest}")
        assert settings(tmp_path / "my_tasks")["project"]["description"] == HOSTILE[3]
        assert not list(tmp_path.rglob("executed"))

    def test_the_answers_reach_the_project(self, bake):
        answers, _ = COMBINATIONS["everything answered"]
        project = bake(**answers)
        assert project.name == "stars2"
        assert settings(project)["project"] == {
            "name": "stars2",
            "version": "0.1.0",
            "description": "Measures stars.",
            "authors": [{"name": "A. Person"}],
            "requires-python": ">=3.13",
            "dependencies": ["taskfleet[aws,pandas]"],
        }
        assert (project / "README.md").read_text().startswith("# Star Catalogue\n\nMeasures stars.\n\nOne function")
        assert "\nJOB_ID=stars2\n" in (project / "config/task.env").read_text()

    def test_the_docker_image_has_the_chosen_python(self, bake):
        assert "\nFROM python:3.12-slim\n" in (bake(python_version="3.12") / "Dockerfile").read_text()

    def test_the_docker_image_has_no_secrets_and_everything_else(self, bake):
        project = bake()
        before = {str(path.relative_to(project)) for path in project.rglob("*") if path.is_file()}
        harmless = ["config/.env.example", "data/key.txt", "keys/id_rsa.pub", "stars.envelope"]
        for name in [*SECRET_FILES, *harmless, "jobs/one.db", "results/1.csv", "results.csv", ".venv/bin/python"]:
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            (project / name).touch()
        assert [name for name in SECRET_FILES if not is_secret_file(name, b"")] == []
        patterns = [
            line for line in (project / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
        ]
        in_image = {name for name in exclude_paths(str(project), patterns) if (project / name).is_file()}
        assert in_image == before | set(harmless)

    @pytest.mark.parametrize(
        ("provider", "extras", "suggestion"),
        [
            ("local", "pandas", None),
            ("aws", "aws,pandas", "sqs://my-tasks"),
            ("gcp", "gcp,pandas", "pubsub://MY-PROJECT/my-tasks"),
            ("slurm", "pandas", None),
            ("ssh", "pandas,postgresql", "postgresql://SERVER/DATABASE"),
        ],
    )
    def test_the_provider_decides_about_packages_and_settings(self, bake, template, provider, extras, suggestion):
        project = bake(provider=provider)
        assert settings(project)["project"]["dependencies"] == [f"taskfleet[{extras}]"]
        assert (project / "config/pool.env").read_text() == (template / f"templates/pool.{provider}.env").read_text()
        assert f"\nPROVIDER={provider}\n" in (project / "config/pool.env").read_text()
        lines = (project / "config/task.env").read_text().splitlines()
        suggested = [line.removeprefix("#QUEUE_URL=") for line in lines if line.startswith("#QUEUE_URL=")]
        assert suggested == ["ledger", *filter(None, [suggestion])]
        assert not any(line.startswith("QUEUE_URL=") for line in lines), "the default works without an account"

    def test_every_extra_that_the_template_names_is_one_of_the_library(self, bake, template):
        with (template / "shared_lib/pyproject.toml").open("rb") as file:
            extras = tomllib.load(file)["project"]["optional-dependencies"].keys()
        for provider in ("local", "aws", "gcp", "ssh"):
            project = bake(provider=provider, project_slug=f"with_{provider}")
            named = re.findall(r"taskfleet\[([^\]]+)\]", "".join(files(project)[1].values()))
            assert {extra for one in named for extra in one.split(",")} <= extras

    def test_no_author_leaves_no_trace(self, bake):
        assert "authors" not in settings(bake(author_name="  "))["project"]

    def test_an_empty_description_leaves_no_gap(self, bake):
        assert (bake(description="") / "README.md").read_text().startswith("# My Tasks\n\nOne function")

    def test_every_command_of_the_library_is_a_task_of_the_project_with_the_same_line_of_help(self, bake):
        project = bake()
        poe = settings(project)["tool"]["poe"]
        included = tomllib.loads((project / poe["include"]).read_text())["tool"]["poe"]["groups"]
        groups = [*included.values(), *poe["groups"].values()]
        assert [group["heading"] for group in groups] == ["Tasks", "Machines", "Development"]
        tasks = {name: task for group in included.values() for name, task in group["tasks"].items()}
        assert {name: task["help"] for name, task in tasks.items()} == {one.name: one.help for one in COMMANDS.values()}
        assert list(poe["groups"]["3-development"]["tasks"]) == ["test"]
        for task in tasks.values():
            assert "args" not in task, "with args, poe would swallow -e and --help"
            assert task["use_exec"], "poe would kill it two seconds after Ctrl-C"
            assert "\n" not in task["help"]

    @pytest.mark.parametrize("text", HOSTILE, ids=ascii)
    @pytest.mark.parametrize("question", ["project_name", "description", "author_name"])
    def test_hostile_text_is_only_text(self, bake, question, text, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        project = bake(**{question: text})
        assert not list(tmp_path.rglob("executed"))
        assert files(project)[0] >= ALWAYS
        assert not slug_refusal(project.name)
        told = settings(project)["project"]
        if question == "description":
            assert told["description"] == text
        if question == "author_name":
            assert told["authors"] == [{"name": text}]
        assert told.keys() <= {"name", "version", "description", "authors", "requires-python", "dependencies"}
        title, *headings = [line for line in (project / "README.md").read_text().splitlines() if line.startswith("#")]
        assert title.startswith("# ")
        assert headings == [
            "## Run it",
            "## The files",
            "## Adapt it",
            "## More machines",
            "## Settings",
            "## Docker",
        ]

    def test_two_lines_do_not_break_the_heading(self, bake):
        readme = (bake(project_name="Two\nlines", description="# no *heading*\n- no list") / "README.md").read_text()
        assert readme.startswith("# Two lines\n\n\\# no \\*heading\\* - no list\n\n")


class TestRefusals:
    @pytest.mark.parametrize(("slug", "reason"), REFUSED.items(), ids=lambda text: ascii(text)[:20])
    def test_a_bad_project_name_is_refused_in_one_line_and_nothing_is_left(self, refuse, slug, reason):
        [line] = refuse(project_slug=slug)
        assert line.startswith(f"error: project_slug is {slug!a}, which is ")
        assert reason in line
        assert f"Answer for example {valid_slug(slug)!r}." in line

    @pytest.mark.parametrize("name", ["", "   ", "\n"], ids=ascii)
    def test_an_empty_name_is_refused(self, refuse, name):
        [line] = refuse(project_name=name)
        assert line == "error: project_name is empty. Answer with any text, for example 'My Tasks'."

    def test_bytes_that_are_no_text_are_refused(self, refuse):
        [line] = refuse(description=os.fsdecode(b"caf\xe9"))
        assert line.startswith("error: description is 'caf\\udce9', which is not valid UTF-8.")

    def test_all_faults_are_told_at_once(self, refuse):
        assert len(refuse(project_name="", project_slug="class", author_name="\udcff")) == 3

    @pytest.mark.parametrize("slug", ["class", "a/b"])
    def test_the_command_line_says_why_and_fails(self, template, run, cookiecutter_command, tmp_path, slug):
        (tmp_path / "out").mkdir()
        answers = ("-o", tmp_path / "out", template, f"project_slug={slug}")
        done = run(*cookiecutter_command, *answers, folder=tmp_path, status=1, HOME=tmp_path)
        [line] = (done.stdout + done.stderr).splitlines()
        assert line.startswith("error: project_slug is ")
        assert not list((tmp_path / "out").iterdir())

    @pytest.fixture
    def terminal(self, template, clean_environment, tmp_path):
        """A terminal in which the template asks its questions; the project would be in ``out``."""
        command = [sys.executable, "-m", "cookiecutter", "-o", tmp_path / "out", template]
        with Terminal(command, cwd=tmp_path, env=clean_environment | {"HOME": str(tmp_path)}) as one:
            one.until("Title of the project")
            yield one

    @pytest.mark.parametrize(
        ("typed", "question", "last"),
        [
            (["   "], "project_name", "Title of the project"),
            (["Stars", "class"], "project_slug", "Name of the folder"),
            (["Stars", "../stars"], "project_slug", "Name of the folder"),
        ],
    )
    def test_in_a_terminal_an_answer_is_refused_before_the_next_question(
        self, terminal, questions, typed, question, last, tmp_path
    ):
        prompts = ["Title of the project", "Name of the folder", "One-sentence description"]
        for answer, prompt in zip(typed, prompts[1:], strict=False):
            terminal.type(f"{answer}\n")
            if answer != typed[-1]:
                terminal.until(prompt)
        assert terminal.wait() == 1
        lines = terminal.text.splitlines()
        assert lines[-1].startswith(f"error: {question} is ")
        assert last in terminal.text
        assert prompts[prompts.index(last) + 1] not in terminal.text
        assert "Traceback" not in terminal.text
        assert not list(tmp_path.glob("out/*"))

    def test_ctrl_c_at_a_question_leaves_nothing(self, terminal, tmp_path):
        terminal.control_c()
        assert terminal.wait() == 1
        assert "Traceback" not in terminal.text
        assert not list(tmp_path.glob("out/*"))

    def test_an_end_of_the_answers_leaves_nothing(self, template, run, tmp_path):
        command = (sys.executable, "-m", "cookiecutter", "-o", tmp_path / "out", template)
        done = run(*command, folder=tmp_path, status=1, HOME=tmp_path)
        assert "Traceback" not in done.stdout + done.stderr
        assert not list(tmp_path.glob("out/*"))

    def test_cruft_says_why_in_one_line(self, published, run, tmp_path):
        answers = json.dumps({"project_slug": "class", "author_name": "  "})
        command = (sys.executable, "-m", "cruft", "create", "--no-input", f"file://{published}")
        done = run(*command, "--extra-context", answers, folder=tmp_path, status=1, HOME=tmp_path)
        said = done.stdout + done.stderr
        assert (
            said == "error: project_slug is 'class', which is a keyword of Python. Answer for example 'class_tasks'.\n"
        )
        assert not (tmp_path / "class").exists()

    def test_an_answer_to_no_question_is_a_fault_of_the_test(self, bake):
        with pytest.raises(AssertionError, match="use_dokcer"):
            bake(use_dokcer=False)


class TestNames:
    @pytest.mark.parametrize(
        ("name", "slug"),
        {
            "My Tasks": "my_tasks",
            "Überfälle, täglich": "uberfalle_taglich",
            "2024 survey": "tasks_2024_survey",
            "Test": "test_tasks",
            "class": "class_tasks",
            "!!!": "my_tasks",
            "x" * 300: "x" * 60,
        }.items(),
        ids=lambda text: text[:20],
    )
    def test_a_folder_name_is_made_of_the_project_s_name(self, name, slug):
        assert valid_slug(name) == slug

    @given(st.text())
    def test_the_name_made_of_any_text_is_a_good_one(self, text):
        slug = valid_slug(text)
        assert slug_refusal(slug) == ""
        assert slug.isidentifier()
        assert not keyword.iskeyword(slug)

    def test_the_distribution_is_named_with_dashes(self, bake):
        assert settings(bake(project_slug="a__b_c1"))["project"]["name"] == "a-b-c1"


class TestTexts:
    @given(st.text())
    def test_any_text_survives_toml(self, text):
        assert tomllib.loads(f"text = {toml(text)}") == {"text": text}

    @given(st.text())
    def test_any_text_is_one_harmless_line_of_markdown(self, text):
        line = markdown(text)
        assert len(line.splitlines()) <= 1 or set(line) & {"\u2028", "\u2029"}
        assert not line.startswith(("#", "-", "+", "*", "=", ">", "`"))
        assert "<" not in line.replace("\\\\", "").replace("\\<", "")

    @given(st.text())
    def test_a_text_that_is_no_template_of_ours_is_not_rendered(self, text):
        environment = Environment(extensions=[TemplateSupport])
        assert environment.from_string(text).render() == text
        assert environment.from_string("{{ 7 * 7 }}" + text).render() == "{{ 7 * 7 }}" + text


class TestTables:
    def test_the_example_has_ten_thousand_tasks(self, example):
        assert [task["task_id"] for task in example] == [f"addition-task-{number:06d}" for number in range(1, 10_001)]
        assert example[0] == {"task_id": "addition-task-000001", "data": {"num1": -84808, "num2": -71224}}
        for task in example:
            assert task["data"].keys() == {"num1", "num2"}
            assert all(type(number) is int and abs(number) <= 100_000 for number in task["data"].values())

    def test_there_is_one_task_a_line(self, template):
        lines = (template / "{{cookiecutter.project_slug}}/tasks.json").read_text().splitlines()
        assert len(lines) == 10_002
        assert json.loads(lines[1].rstrip(","))["task_id"] == "addition-task-000001"

    def test_the_feather_table_holds_the_same_tasks(self, template, example):
        table = feather.read_table(template / "{{cookiecutter.project_slug}}/tasks.feather")
        assert table.column_names == ["task_id", "num1", "num2"]
        assert table.to_pylist() == [{"task_id": task["task_id"], **task["data"]} for task in example]


class TestDocker:
    def test_the_packages_are_a_layer_of_their_own_before_the_code(self, bake):
        lines = (bake() / "Dockerfile").read_text().splitlines()
        steps = [line for line in lines if line.startswith(("COPY", "RUN uv"))]
        assert steps[0] == "COPY pyproject.toml uv.lock ./"
        assert steps[1] == "COPY shared_lib shared_lib"
        assert steps[2].startswith("RUN uv ")
        assert steps[3:] == ["COPY . ."]

    def test_the_worker_is_not_root_and_gets_the_signals(self, bake):
        lines = (bake() / "Dockerfile").read_text().splitlines()
        assert "USER 1000" in lines
        assert json.loads(lines[-1].removeprefix("CMD ")) == ["uv", "run", "--frozen", "--no-dev", "python", "run.py"]


class TestContinuousIntegration:
    def test_it_runs_the_command_that_the_readme_gives(self, template):
        lines = (template / ".ci/run").read_text().splitlines()
        assert lines[-1] == "pip install uv && uv run poe test"
        assert os.access(template / ".ci/run", os.X_OK)
        subprocess.run(["bash", "-n", template / ".ci/run"], check=True)
