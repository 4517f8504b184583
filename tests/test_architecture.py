"""``docs/architecture.md`` leads to modules that are there, and draws the layers that the linter keeps."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_every_link_leads_somewhere():
    targets = re.findall(r"\]\(([^)]+)\)", PAGE)
    assert len(targets) > 40
    assert [one for one in targets if not (ROOT / "docs" / one.partition("#")[0]).exists()] == []


def test_the_layers_that_are_drawn_are_those_that_are_checked():
    [drawing] = re.findall(r"^## Layers\n\n```\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL)
    drawn = [re.findall(r"[a-z_]+", re.sub(r"\(.*?\)", "", line[:55])) for line in drawing.splitlines()]
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    [layers] = [one["layers"] for one in contracts if one["type"] == "layers"]
    checked = [[name.strip() for name in layer.split("|")] for layer in layers if layer != "__main__"]
    assert [sorted(one) for one in drawn] == [sorted(one) for one in checked]
