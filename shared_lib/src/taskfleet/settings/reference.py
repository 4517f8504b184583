"""What people read about the settings, made from the fields."""

import textwrap
from collections.abc import Mapping

from taskfleet.settings.declaring import GROUPS, POOL_GROUPS, Field
from taskfleet.settings.describing import describe


def env_file(values: Mapping[str, str], exports: str = "", *, of_pool: bool = False) -> str:
    """Give the text of an ``.env`` file: every setting with its sentence, those without a value commented out.

    Args:
        values: Texts by upper-case name.
        exports: What stands at the end, for the user's own variables.
        of_pool: Of the pool of machines, instead of the job.
    """
    head = (
        "# The machines of this job's pool. The environment and the flags of a command come before this file.\n"
        if of_pool
        else "# The settings of this job. The environment and the flags of a command come before this file.\n"
        "# Lines NAME=value are settings; lines export NAME=value are your own variables, handed to your tasks.\n"
    )
    parts = [head]
    for group, title in GROUPS.items():
        if (group in POOL_GROUPS) != of_pool:
            continue
        parts.append(f"\n# --- {title} ---\n")
        for field in describe():
            if field.group == group:
                parts.append(_env_lines(field, values.get(field.name)))
    return "".join(parts) + exports


def table() -> str:
    """Give the reference table in Markdown."""
    lines = []
    for group, title in GROUPS.items():
        lines += [f"\n### {title}\n", "| setting | flag | default | meaning |", "|---|---|---|---|"]
        for field in describe():
            if field.group == group:
                sentence = field.sentence + "".join(f" Older name: `{old}`." for old in field.old_names)
                default = f"`{field.default}`" if field.default else ""
                lines.append(f"| `{field.name}` | `{field.flag} {field.metavar}` | {default} | {sentence} |")
    return "\n".join(lines).strip() + "\n"


def _env_lines(field: Field, value: str | None) -> str:
    comment = textwrap.fill(field.sentence, width=110, initial_indent="# ", subsequent_indent="# ")
    line = f"#{field.name}={field.default}" if value is None else f"{field.name}={value}"
    return f"{comment}\n{line}\n"
