"""One module says where tasks stand."""

import re
from types import ModuleType

import pytest
from taskfleet.errors import LedgerError
from taskfleet.ledger.migrations import MIGRATIONS

from shared_lib.tests.ledger.sources import python_texts

#: ``Transitions`` and what it consists of.
DESCENDANTS = {"ledger/descendants.py", "ledger/releasing.py"}
WRITERS = {
    "state": {
        "ledger/transitions.py",
        "ledger/cancel_transitions.py",
        *DESCENDANTS,
        "ledger/managers.py",
    },  # who runs a task
    "segment": {"ledger/transitions.py", "ledger/cancel_transitions.py", "ledger/sending.py"},
    "unsent": {
        "ledger/transitions.py",
        "ledger/cancel_transitions.py",
        "ledger/changes.py",
        "ledger/descendants.py",
        "ledger/sending.py",
    },
    "kill": {"ledger/cancel_transitions.py"},
    "counter": {"ledger/counters.py"},
    "tally": {"ledger/counters.py", "ledger/sending.py"},
    "throughput": {"ledger/counters.py"},
}
WRITE = re.compile(
    r"\b(?:INSERT(?: OR \w+)? INTO|REPLACE INTO|UPDATE(?: OR \w+)?|DELETE FROM)\s+(?:main\.)?(\{?\w*)", re.IGNORECASE
)


def test_no_other_module_has_a_statement_that_writes_where_tasks_stand():
    found = {table: set() for table in WRITERS}
    for name, text in python_texts():
        for table in WRITE.findall(text):
            assert name == "ledger/migrations.py" or not table.startswith("{"), f"{name} puts a table's name in: {text}"
            found.get(table, set()).add(name)
    assert found == WRITERS
    assert not {table for one in MIGRATIONS for table in one.translations} & WRITERS.keys()


def test_no_module_has_a_state_as_a_number_in_a_statement():
    literal = re.compile(
        r"\bstate\)? (?:=|<>|!=|IN|<|>) ?\(?\d|SET state = \d|coalesce\(state\.state, \d", re.IGNORECASE
    )
    assert literal.search("WHERE state = 2")
    found = [(name, text) for name, text in python_texts() if literal.search(text)]
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
