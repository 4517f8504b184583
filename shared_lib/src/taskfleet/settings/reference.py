"""What people read about the settings, made from the fields."""

import textwrap
from collections.abc import Iterable, Mapping

from taskfleet.settings.declaring import GROUPS, POOL_GROUPS, PROVIDER_GROUPS, Field
from taskfleet.settings.describing import describe


def task_env(values: Mapping[str, str], exports: str = "") -> str:
    """Return the text of ``config/task.env``: every setting with its sentence, those without a value commented out.

    Args:
        values: Texts by upper-case name.
        exports: What stands at the end, for the user's own variables.
    """
    head = (
        "# The settings of this job. The environment and the flags of a command come before this file.\n"
        "# Lines NAME=value are settings; lines export NAME=value are your own variables, handed to your tasks.\n"
    )
    return head + _sections([group for group in GROUPS if group not in POOL_GROUPS], values) + exports


def pool_env(provider: str, values: Mapping[str, str], exports: str = "") -> str:
    """Return the text of ``config/pool.env`` with the settings that matter to a provider; see ``task_env``."""
    others = " or ".join(name for name in PROVIDER_GROUPS if name != provider)
    head = (
        "# The machines of this job's pool. The environment and the flags of a command come before this file.\n"
        f"# For another provider ({others}): uv run poe settings --provider NAME --pool-env > pool.new && mv pool.new config/pool.env\n"
    )
    return head + _sections(PROVIDER_GROUPS[provider], {"PROVIDER": provider, **values}) + exports


def table() -> str:
    """Return the reference table of all settings in Markdown."""
    lines = []
    for group, title in GROUPS.items():
        lines += [f"\n### {title}\n", "| setting | flag | default | meaning |", "|---|---|---|---|"]
        for field in describe():
            if field.group == group:
                sentence = field.sentence + "".join(f" Older name: `{old}`." for old in field.old_names)
                default = f"`{field.default}`" if field.default else ""
                lines.append(f"| `{field.name}` | `{field.flag} {field.metavar}` | {default} | {sentence} |")
    return "\n".join(lines).strip() + "\n"


def _sections(groups: Iterable[str], values: Mapping[str, str]) -> str:
    parts = []
    for group in groups:
        parts.append(f"\n# --- {GROUPS[group]} ---\n")
        parts += [_env_lines(field, values.get(field.name)) for field in describe() if field.group == group]
    return "".join(parts)


def _env_lines(field: Field, value: str | None) -> str:
    comment = textwrap.fill(field.sentence, width=110, initial_indent="# ", subsequent_indent="# ")
    line = f"#{field.name}={field.default}" if value is None else f"{field.name}={value}"
    return f"{comment}\n{line}\n"
