"""Show the whole thing once: bake a project in a temporary folder, run its 10,000 tasks, leave the results there.

uv run poe demo
"""

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parents[1]
UV = os.environ.get("UV", "uv")  # "uv run" says where it lives

#: What uv and poe tell the processes of this repository; the project is another one.
NOT_HANDED_ON = ("VIRTUAL_ENV", "POE_", "UV_PROJECT", "UV_RUN_RECURSION_DEPTH")


class StepFailed(Exception):
    """A step ended with an exit code other than zero.

    Attributes:
        code: That exit code.
    """

    def __init__(self, message, code):
        super().__init__(message)
        self.code = code


def main():
    folder = Path(tempfile.mkdtemp(prefix="taskfleet-demo-"))
    project = folder / "demo"
    try:
        show(folder, project)
    except StepFailed as failure:
        print(f"\nThe demo stopped: {failure} What was made so far is in {folder}", file=sys.stderr)
        return failure.code
    except KeyboardInterrupt:
        print(f"\nStopped. What was made so far is in {folder}", file=sys.stderr)
        return 130
    return 0


def show(folder, project):
    say(1, "Bake a project from the template", f"cookiecutter {TEMPLATE}")
    config = folder / "cookiecutter.yaml"  # keeps the user's own answers out, and this bake out of the user's folders
    config.write_text(f"replay_dir: {folder}/.replay\ncookiecutters_dir: {folder}/.clones\n", encoding="utf-8")
    bake = ["-m", "cookiecutter", "--no-input", "--config-file", config, "-o", folder, TEMPLATE, "project_name=Demo"]
    carry_out([sys.executable, *bake], folder, quiet=True)
    print(f"      It is in {project}", flush=True)

    for number, (title, command) in enumerate(
        (
            ("Install what it needs", "sync"),
            ("Put its 10,000 tasks into the queue", "run poe insert_tasks"),
            ("Work on them, on every core", "run poe launch_worker"),
            ("Write the results", "run poe results -o results.feather"),
        ),
        start=2,
    ):
        say(number, title, f"uv {command}")
        carry_out([UV, *command.split()], project)

    print(f"\nThe results are in {project / 'results.feather'}\n")
    print("Look around in the project, for example:\n")
    print(f"    cd {shlex.quote(str(project))}\n    uv run poe status\n    uv run poe\n")
    print("Your own project: uvx cookiecutter", shlex.quote(str(TEMPLATE)), flush=True)


def say(number, title, command):
    print(f"\n[{number}/5] {title}: {command}", flush=True)


def carry_out(command, folder, quiet=False):
    """Run one step and wait for it; a quiet one is heard only if it fails.

    Raises:
        StepFailed: It could not be started, or its exit code was not zero.
        KeyboardInterrupt: Ctrl-C was typed. The terminal tells the step as well, so it is left to end in its own way.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(NOT_HANDED_ON)}
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} if quiet else {}
    try:
        process = subprocess.Popen(command, cwd=folder, env=environment | {"PWD": str(folder)}, **output)
    except OSError as fault:
        raise StepFailed(f"{fault.strerror}: {command[0]}.", 127) from fault
    interrupted = False
    said = None
    while True:
        try:
            said = process.communicate()[0]
            break
        except KeyboardInterrupt:
            interrupted = True
    if interrupted:
        raise KeyboardInterrupt
    if process.returncode:
        if said:
            print(said, end="", file=sys.stderr)
        # A process that a signal ended has a negative code; shells write that as 128 and the signal's number.
        code = process.returncode if process.returncode > 0 else 128 - process.returncode
        raise StepFailed(f"{shlex.join(map(str, command))} ended with exit code {code}.", code)


if __name__ == "__main__":
    sys.exit(main())
