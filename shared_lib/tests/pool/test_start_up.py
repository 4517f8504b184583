"""The start-up script as a text: what is in it, what is refused. Whole machines boot it in ``tests/machines``."""

import base64
import gzip
import random
import re
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest
from taskfleet.errors import StartUpError
from taskfleet.machines.aws.provider import AwsProvider
from taskfleet.machines.facts import MAX_CHARACTERS
from taskfleet.pool.bundle import StoredBundle
from taskfleet.pool.start_up import GitCode, ImageCode, UserScripts, read_scripts, script
from taskfleet.settings.pool_fields import PoolSettings

LIBRARY = Path(__file__).resolve().parents[2] / "src"
#: The project needs a package, and a queue service its own; the library needs another.
LOCK = """
[[package]]
name = "mine"
source = { virtual = "." }
dependencies = [{ name = "taskfleet", extra = ["aws", "postgresql"] }, { name = "numpy" }]
[[package]]
name = "taskfleet"
dependencies = [{ name = "tqdm" }]
optional-dependencies = { aws = [{ name = "botocore" }], postgresql = [{ name = "psycopg" }] }
"""
BUNDLE = StoredBundle(
    address="s3://bucket/folder/taskfleet-bundles/job/one.tar.gz",
    hash="0" * 64,
    region="eu-west-3",
)
CODES = {"bundle": BUNDLE, "git": GitCode(url="https://example.org/me/it's.git", revision="v1"), "image": ImageCode()}
#: What a job usually has.
ENVIRONMENT = {
    "QUEUE_URL": "sqs://my-job-with-a-long-name?region=eu-west-3",
    "AWS_REGION": "eu-west-3",
    "TASK_FUNCTION": "task:run_task",
    "LEASE_SECONDS": "30",
    "MAX_RUNTIME_SECONDS": "600",
    "MEMORY_LIMIT_GIB": "4",
    "OUTPUT_PATH": "s3://my-bucket/results/my-job-with-a-long-name",
    "RETRY_DELAYS": "exception:1-60 lost:5-600",
    "TASKFLEET_SLOTS": "2:2 4:4 8:8 16:16 32:32",
    "TASKFLEET_OFFERS": " ".join(
        f"c7i.{n}xlarge,spot,{4 * n},0,22.5,eu-west-3a=0.{n}123,eu-west-3b=0.{n}234" for n in range(1, 12)
    )[:MAX_CHARACTERS],
}
HOOK = "apt-get update\napt-get install -y libgdal-dev ffmpeg\nmkfs.ext4 /dev/nvme1n1\nmount /dev/nvme1n1 /scratch\n"


def make(**options):
    usual = {"provider": "aws", "job_id": "one", "lifetime_seconds": 3600.0, "code": BUNDLE}
    return script(**usual | options)


def written(text, name):
    """What a script writes into a file of that name."""
    found = re.search(
        rf"<<'(END-\w+)'( \| gunzip)? ?>?\"?(?:\$state/{name}\")?\n(.*?)\n\1\n",
        text[text.index(f'/{name}"') - 40 :],
        re.DOTALL,
    )
    content = found[3] + "\n"
    return gzip.decompress(base64.b64decode(content)).decode() if found[2] else content


@pytest.mark.parametrize("provider", ["aws", "gcp"])
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("scripts", [UserScripts(), UserScripts(before_worker=HOOK), UserScripts(whole=HOOK)])
def test_every_script_is_one_that_shellcheck_has_nothing_against(tmp_path, provider, code, scripts):
    text = make(provider=provider, code=CODES[code], environment=ENVIRONMENT, slots=4, scripts=scripts)
    path = tmp_path / "script.sh"
    path.write_text(text)
    program = Path(sysconfig.get_path("scripts")) / "shellcheck"
    checked = subprocess.run([program, "--severity=info", path], capture_output=True, text=True)
    # variables that only one kind of code reads, and shell code in single quotes for another shell
    assert set(re.findall(r"SC\d+", checked.stdout)) <= {"SC2034", "SC2016"}, checked.stdout
    assert checked.returncode == 0 or checked.stdout
    assert text.startswith("#!/bin/bash\n")


def test_a_script_with_the_usual_settings_leaves_room_for_more():
    hooks = UserScripts(before_start_up=HOOK, before_worker=HOOK, after_worker=HOOK)
    assert (
        len(make(environment=ENVIRONMENT, slots=16, scripts=hooks).encode()) < 0.85 * AwsProvider.longest_script_bytes
    )


def run_install(text, folder):
    """Run the function that installs packages, and return the arguments of ``uv sync``."""
    (folder / "uv.lock").write_text(LOCK)
    python = f"mkdir -p .venv/bin && ln -s {sys.executable} .venv/bin/python"
    (folder / "uv").write_text(f'#!/bin/sh\nif [ "$1" = venv ]; then {python}; else printf "%s\\n" "$@"; fi\n')
    (folder / "uv").chmod(0o755)
    settings, functions = text.partition("\nset -u\n")[0], ["retry", "install_packages"]
    bodies = [re.search(rf"^{name}\(\) {{$.*?^}}$", text, re.MULTILINE | re.DOTALL)[0] for name in functions]
    with_variables = 'own=(_=)\nwith() { env "${own[@]}" "$@"; }'
    script_text = "\n".join([settings, "set -u", f"project={folder}", with_variables, *bodies, "install_packages"])
    environment = {"PATH": f"{folder}:/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", script_text], env=environment, capture_output=True, text=True, check=True)
    [command, *words] = done.stdout.split()
    assert command == "sync"
    return words


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(
    ("package", "unneeded"),
    [("", ["tqdm"]), ("botocore", ["psycopg", "tqdm"]), ("unknown", ["botocore", "psycopg", "tqdm"])],
)
def test_packages_that_workers_do_not_need_are_not_installed(tmp_path, code, package, unneeded):
    (tmp_path / "shared_lib").mkdir()
    (tmp_path / "shared_lib" / "src").symlink_to(LIBRARY)
    left_out = [word for one in unneeded for word in ("--no-install-package", one)]
    assert run_install(make(code=CODES[code], queue_package=package), tmp_path) == ["--frozen", "--no-dev", *left_out]


def test_all_packages_are_installed_if_the_library_is_not_where_the_template_puts_it(tmp_path):
    assert run_install(make(queue_package="botocore"), tmp_path) == ["--frozen", "--no-dev"]


def test_variables_reach_the_worker_as_they_are():
    odd = {"ODD": 'it\'s $HOME `id` "x" \\ \n second line ü !', "EMPTY": "", "HASH": "#no comment"}
    text = make(environment=odd, slots=3)
    part = text[text.index("\nown+=(\n") : text.index("base64 -d <<")]
    done = subprocess.run(
        ["bash", "-c", part + '\nenv "${own[@]}" env -0'],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=True,
    )
    found = dict(pair.split("=", 1) for pair in done.stdout.decode().split("\0") if pair)
    assert {name: found[name] for name in odd} == odd
    assert (found["JOB_ID"], found["SLOTS"]) == ("one", "3")
    assert "SLOTS=" not in make()


def test_scripts_of_the_user_are_written_as_they_are():
    text = "#!/bin/bash\necho 'a' \"$B\" `c` \\\ncat <<EOF\nEOF\n"
    for content in (text, "# a long one\n" * 200 + text):
        made = make(scripts=UserScripts(before_worker=content.replace("\n", "\r\n")))
        assert written(made, "before_worker") == content
    assert len(made.encode()) < len(make().encode()) + 1000


def test_what_a_whole_script_replaces_is_all_but_the_self_destruct_timer_and_the_environment():
    text = make(scripts=UserScripts(whole="echo mine\n", before_worker="echo not this\n"), environment={"A": "1"})
    assert "echo mine" in text
    assert "shutdown -P" in text
    assert "\nA=1\n" in text
    assert "uv sync" not in text
    assert "not this" not in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SESSION_TOKEN", "x"),
        ("PGPASSWORD", "x"),
        ("my_api_key", "x"),
        ("HARMLESS", "AKIAIOSFODNN7EXAMPLE"),
        ("QUEUE_URL", "postgresql://me:hunter2@host/queue"),
    ],
)
def test_secrets_are_refused_and_not_shown(name, value):
    with pytest.raises(
        StartUpError, match=rf"^{name} cannot be part of the start-up script.*INSTANCE_PROFILE"
    ) as caught:
        make(environment={name: value})
    assert value == "x" or value not in str(caught.value)
    with pytest.raises(StartUpError, match=r"^AFTER_WORKER: it contains what looks like an AWS access key"):
        make(scripts=UserScripts(after_worker="export A=AKIAIOSFODNN7EXAMPLE\n"))
    with pytest.raises(StartUpError, match=r"^GIT_URL: it contains credentials"):
        make(code=GitCode(url="https://token@example.org/me/it.git"))


def test_what_only_sounds_like_a_secret_is_not_refused():
    make(
        environment={
            "MAX_TOKENS": "5",
            "AWS_SECRET_ACCESS_KEY": "",
            "SECRET_SANTA": "no",
            "QUEUE_URL": "postgresql://me@host/queue",
        }
    )
    make(code=GitCode(url="ssh://git@example.org/me/it.git"))


def test_what_cannot_be_is_refused():
    with pytest.raises(StartUpError, match="'A-B' is not a valid environment variable"):
        make(environment={"A-B": "1"})
    with pytest.raises(StartUpError, match=r"GIT_REVISION=--x is invalid"):
        make(code=GitCode(url="https://example.org/it.git", revision="--x"))
    noise = random.Random(1).randbytes(15_000).hex()
    with pytest.raises(
        StartUpError, match=r"has [\d,]+ bytes, but aws allows at most 16,384.*: BEFORE_WORKER 30,0\d\d, JOB_ID 3\."
    ):
        make(scripts=UserScripts(before_worker=f": {noise}\n"))
    make(provider="gcp", scripts=UserScripts(before_worker=f": {noise}\n"))


def test_scripts_are_read_from_the_project(tmp_path):
    (tmp_path / "first.sh").write_text("echo ä\n")
    pool = replace(PoolSettings(), before_start_up="first.sh")
    assert read_scripts(pool, tmp_path) == UserScripts(before_start_up="echo ä\n")
    with pytest.raises(
        StartUpError, match=r"^AFTER_WORKER=no\.sh: .*no\.sh cannot be read \(No such file or directory\)\.$"
    ):
        read_scripts(replace(pool, after_worker="no.sh"), tmp_path)
    (tmp_path / "first.sh").write_bytes(b"\xff\xfe")
    with pytest.raises(StartUpError, match="not UTF-8 text"):
        read_scripts(pool, tmp_path)


def test_a_script_with_a_typo_is_refused_before_a_machine_costs_anything(tmp_path):
    pool = replace(PoolSettings(), before_worker="typo.sh")
    (tmp_path / "typo.sh").write_text("echo one\nif true; then\n  echo two\n")
    with pytest.raises(
        StartUpError,
        match=r"^BEFORE_WORKER=typo\.sh is not a valid shell script: line 4: syntax error: .*end of file$",
    ):
        read_scripts(pool, tmp_path)
    (tmp_path / "typo.sh").write_text("#!/usr/bin/env python3\nif True:\n    print('it is none')\n")
    assert read_scripts(pool, tmp_path).before_worker.startswith("#!/usr/bin/env python3")


def test_a_script_of_the_user_may_be_a_text_in_the_settings():
    text = "#!/bin/bash\necho hi\n"
    assert read_scripts(PoolSettings(start_up_script=text), Path("/nowhere")).whole == text
    with pytest.raises(
        StartUpError, match=r"START_UP_SCRIPT=\(the script in the settings\) is not a valid shell script"
    ):
        read_scripts(PoolSettings(start_up_script="if\n"), Path("/nowhere"))
