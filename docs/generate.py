"""Write what is made from the code: docs/settings.md, docs/commands.md and the template's config/task.env.

uv run poe generate            write them
uv run poe generate --check    say which are out of date, exit with 1 if any is
"""

import contextlib
import importlib
import io
import os
import sys
from pathlib import Path

from taskfleet.cli import COMMANDS
from taskfleet.settings.reference import pool_env, table, task_env

ROOT = Path(__file__).resolve().parents[1]

VALUES = {
    "JOB_ID": "{{ cookiecutter.project_slug }}",
    "TASK_TABLE": "tasks.json",
    "MAX_RUNTIME_SECONDS": "600",
}
EXPORTS = """
# --- Your own variables ---
# The example in task.py reads these: a delay in seconds, and how often (0 to 1) it raises, hangs or crashes.
#export ADDITION_TASK_DELAY=1
#export ADDITION_EXCEPTION_PROBABILITY=0.01
#export ADDITION_TIMEOUT_PROBABILITY=0.001
#export ADDITION_EXIT_PROBABILITY=0.01
"""

SETTINGS_HEAD = """# Settings

Made from the code by `poe generate`. A setting is read from the command line (its flag), else from the environment, else from the
`.env` file (`config/task.env`, or the one named with `-e`), else it has its default. An empty value means the default. Nothing is
expanded in values. Lines `export NAME=value` in the file are your own variables: they are put into the environment of your tasks.

"""

COMMANDS_HEAD = """# Commands

Made from the code by `poe generate`. In a project, type `uv run poe COMMAND`. Exit codes: 0 done, 1 something is wrong and said in one
message, 2 the command line is not understood, 130 stopped with Ctrl-C.
"""


def main() -> int:
    """Write or check the files."""
    wanted = {
        ROOT / "docs" / "settings.md": SETTINGS_HEAD + table(),
        ROOT / "docs" / "commands.md": COMMANDS_HEAD + "".join(map(command_section, COMMANDS)),
        ROOT / "{{cookiecutter.project_slug}}" / "config" / "task.env": task_env(VALUES, EXPORTS),
        ROOT / "{{cookiecutter.project_slug}}" / "config" / "pool.env": pool_env("local", {}),
    }
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date: uv run poe generate", file=sys.stderr)
        return int(bool(stale))
    for path in stale:
        path.write_text(wanted[path], encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


def command_section(name: str) -> str:
    """Give a command's help as a section."""
    os.environ["COLUMNS"] = "110"
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        importlib.import_module(f"taskfleet.commands.{name}").run(["--help"])
    return f"\n## {name}\n\n```\n{out.getvalue().strip()}\n```\n"


if __name__ == "__main__":
    sys.exit(main())
