"""One module says where tasks stand."""

import ast
import re
from pathlib import Path
from types import ModuleType

import pytest
import taskfleet
from taskfleet.errors import LedgerError

SOURCE = Path(taskfleet.__file__).parent
WRITERS = {
    "state": {"ledger/transitions.py"},
    "segment": {"ledger/transitions.py", "ledger/sending.py"},
    "unsent": {"ledger/transitions.py", "ledger/sending.py"},
    "counter": {"ledger/counters.py"},
    "tally": {"ledger/counters.py"},
    "throughput": {"ledger/counters.py"},
}
WRITE = re.compile(
    r"\b(?:INSERT(?: OR \w+)? INTO|REPLACE INTO|UPDATE(?: OR \w+)?|DELETE FROM)\s+(?:main\.)?(\{?\w*)", re.IGNORECASE
)


def statements(path):
    """Give the texts in a module, those made of parts as a whole with {} for what is put in."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)


def test_no_other_module_has_a_statement_that_writes_where_tasks_stand():
    found = {table: set() for table in WRITERS}
    for path in SOURCE.rglob("*.py"):
        for text in statements(path):
            for table in WRITE.findall(text):
                assert not table.startswith("{"), f"{path}: a table's name is put in: {text}"
                found.get(table, set()).add(path.relative_to(SOURCE).as_posix())
    assert found == WRITERS


def test_no_module_has_a_state_as_a_number_in_a_statement():
    literal = re.compile(
        r"\bstate\)? (?:=|<>|!=|IN|<|>) ?\(?\d|SET state = \d|coalesce\(state\.state, \d", re.IGNORECASE
    )
    assert literal.search("WHERE state = 2")
    found = [(path.name, text) for path in SOURCE.rglob("*.py") for text in statements(path) if literal.search(text)]
    assert found == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE state SET state = 3",
        "INSERT OR REPLACE INTO state (seq, state) VALUES (1, 3)",
        "DELETE FROM state",
        "UPDATE counter SET n = n + 1",
        "UPDATE segment SET next_seq = 3",
        "INSERT INTO unsent (seq) VALUES (1)",
        "WITH one AS (SELECT 1 AS seq) INSERT INTO throughput SELECT seq, 1 FROM one",
    ],
)
def test_a_module_that_writes_where_tasks_stand_is_caught_in_these_tests(job, statement):
    job.insert(2)
    other = ModuleType("taskfleet.ledger.other")
    exec("def write(database, statement):\n    database.execute(statement)", other.__dict__)
    before = job.dump()
    with pytest.raises(LedgerError, match="not authorized"):
        other.write(job.database, statement)
    assert job.dump() == before
