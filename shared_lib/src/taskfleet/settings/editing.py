"""Changing one line of a file of settings."""

import re
from pathlib import Path

from taskfleet.errors import SettingsError
from taskfleet.files import write_atomically


def set_in_file(path: Path, name: str, value: str) -> None:
    """Set a setting in a file, in place of its line, or of its comment, or at the end; the other lines stay.

    Raises:
        SettingsError: The file cannot be read or written.
    """
    try:
        text = path.read_text(encoding="utf-8")
        for pattern in (rf"^{name}=.*$", rf"^#{name}=.*$"):
            changed, n = re.subn(pattern, lambda _: f"{name}={value}", text, count=1, flags=re.MULTILINE)
            if n:
                break
        else:
            changed = f"{text}{'' if text.endswith(chr(10)) or not text else chr(10)}{name}={value}\n"
        mode = path.stat().st_mode & 0o777
        target = path.resolve()
        write_atomically(target, changed)
        target.chmod(mode)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be changed: {error}. Set {name}={value} there.") from error
