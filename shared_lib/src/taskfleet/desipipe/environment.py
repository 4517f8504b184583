"""The environment that the tasks of a manager run in: variables, and lines of bash that set others."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from taskfleet.errors import UsageError
from taskfleet.processes.shell import variables_after

#: Environments that can be given by name: variables, and lines of bash.
NAMED: Mapping[str, tuple[Mapping[str, str], tuple[str, ...]]] = {
    "base": ({}, ()),
    "nersc-base": ({"DESICFS": "/global/cfs/cdirs/desi"}, ()),
    "nersc-cosmodesi": (
        {"DESICFS": "/global/cfs/cdirs/desi"},
        ("source /global/common/software/desi/users/adematti/cosmodesi_environment.sh main",),
    ),
}


class Environment(dict[str, str]):
    """Variables for tasks, as a dict, and lines of bash that are run before them.

    Args:
        environ: The name of one of ``NAMED``, another environment, or a dict of variables; ``environ`` among them is a name.
        data: More variables.
        command: A line of bash, or several.

    Raises:
        UsageError: There is no environment of this name.
    """

    def __init__(
        self,
        environ: "str | Mapping[str, Any] | None" = None,
        data: Mapping[str, Any] | None = None,
        command: str | Iterable[str] | None = None,
    ) -> None:
        lines: tuple[str, ...] = ()
        variables: dict[str, Any] = {}
        if isinstance(environ, Environment):
            lines, variables, environ = environ.command, dict(environ), None
        elif isinstance(environ, Mapping):
            variables = dict(environ)
            environ = variables.pop("environ", None)
        name = environ or "base"
        if not isinstance(name, str) or name not in NAMED:
            raise UsageError(f"There is no environment {name!r}; there are {', '.join(NAMED)}.")
        defaults, first = NAMED[name]
        variables = {**defaults, **variables, **(data or {})}
        super().__init__({key: str(value) for key, value in variables.items()})
        more = () if command is None else (command,) if isinstance(command, str) else tuple(map(str, command))
        self.command: tuple[str, ...] = (*first, *lines, *more)

    def to_dict(self, all: bool = False) -> dict[str, str]:
        """Return the variables; with ``all``, the whole environment after the lines of bash.

        Raises:
            CommandError: The lines of bash failed.
        """
        return {**shell_variables(self.command), **self} if all else dict(self)

    def to_script(self, sep: str = "\n", all: bool = True) -> str:
        """Return it as a script of bash; without ``all``, its variables only."""
        lines = [*self.command] if all else []
        return sep.join([*lines, *(f"export {name}={value}" for name, value in self.items())])

    def described(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {"data": dict(self), "command": list(self.command)}


def get_environ(environ: Any = None, data: Mapping[str, Any] | None = None, **kwargs: Any) -> Environment:
    """Return an environment; see ``Environment``."""
    return environ if isinstance(environ, Environment) else Environment(environ, data, **kwargs)


def shell_variables(lines: Iterable[str]) -> dict[str, str]:
    """Return the environment after some lines of bash, each of which runs only if the one before it succeeded.

    Raises:
        CommandError: One failed.
    """
    lines = list(lines)
    if not lines:
        return dict(os.environ)
    command = " && ".join(f"{{ {line}\n}}" for line in lines)
    return variables_after(f"{command} || exit", os.environ, what="An environment")
