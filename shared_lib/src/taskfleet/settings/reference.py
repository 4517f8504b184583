"""The settings as ``.env`` files and as a reference table, generated from the fields."""

import textwrap
from collections.abc import Iterable, Mapping

from taskfleet.settings.declaring import GROUPS, POOL_GROUPS, PROVIDER_GROUPS, Field
from taskfleet.settings.describing import describe


def task_env(values: Mapping[str, str], exports: str = "") -> str:
    """Return the text of ``config/task.env``: every setting with its sentence; settings without a value are commented out.

    Args:
        values: Texts, by upper-case name.
        exports: Lines to append, for the user's own variables.
    """
    head = (
        "# The settings of this job. Flags and environment variables override this file.\n"
        "# NAME=value lines are settings; export NAME=value lines are your own environment variables, passed to your tasks.\n"
    )
    return head + _sections([group for group in GROUPS if group not in POOL_GROUPS], values) + exports


def pool_env(provider: str, values: Mapping[str, str], exports: str = "") -> str:
    """Return the text of ``config/pool.env`` with the settings that apply to a provider; see ``task_env``."""
    others = ", ".join(name for name in PROVIDER_GROUPS if name != provider)
    head = (
        "# The settings of this job's pool. Flags and environment variables override this file.\n"
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
                label = "Alias" if len(field.aliases) == 1 else "Aliases"
                names = ", ".join(f"`{alias}`" for alias in field.aliases)
                sentence = f"{field.sentence} {label}: {names}." if names else field.sentence
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
