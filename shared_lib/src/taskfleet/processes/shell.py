"""The environment that lines of bash set up."""

import subprocess
import tempfile
from collections.abc import Mapping

from taskfleet.errors import CommandError


def variables_after(script: str, environ: Mapping[str, str], *, what: str) -> dict[str, str]:
    """Return the environment after a script of bash, which ends with an error if it cannot be used.

    Args:
        script: The script.
        environ: The environment before it.
        what: Names it in the error.

    Raises:
        CommandError: It failed, or called ``exit``.
    """
    # files, because a process that it leaves in the background would keep pipes open
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        try:
            done = subprocess.run(
                ["bash", "-c", f"exec 3>&1 1>&2\n{script}\nenv -0 >&3"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                check=False,
                env=dict(environ),
            )
        except OSError as error:
            raise CommandError(f"{what} cannot be run: bash: {error.strerror}.") from error
        output.seek(0)
        errors.seek(0)
        variables = output.read()
        if done.returncode:
            shown = errors.read().decode(errors="replace").strip()[-1000:]
            raise CommandError(f"{what} failed with code {done.returncode}: {shown}")
    if not variables:
        raise CommandError(
            f"{what} calls exit, so that its variables are not known. Let it end with its last line, or with return."
        )
    items = (item.partition("=") for item in variables.decode(errors="surrogateescape").split("\0"))
    return {name: value for name, _, value in items if name}
