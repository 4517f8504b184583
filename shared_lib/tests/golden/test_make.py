"""The generator runs with the current version, so a release can add its golden files."""

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from taskfleet.ledger.database import open_ledger

from shared_lib.tests.golden.report import report

ROOT = Path(__file__).parents[3]


def test_the_generator_makes_ledgers_and_messages(tmp_path):
    folder = tmp_path / "made"
    subprocess.run([sys.executable, "-m", "shared_lib.tests.golden.make", str(folder)], cwd=ROOT, check=True)
    ledgers = sorted(path.stem for path in folder.glob("*.db"))
    assert ledgers == ["embedded", "interrupted", "pool", "remote"]
    for name in ledgers:
        expected = json.loads((folder / f"{name}.expected.json").read_text(encoding="utf-8"))
        with closing(open_ledger(folder / f"{name}.db", job_id=name, read_only=True)) as database:
            found = json.loads(json.dumps(report(database)))
        assert {key: expected[key] for key in found} == found
    messages = json.loads((folder / "messages.json").read_text(encoding="utf-8"))
    assert messages["tasks"]
    assert messages["events"]
