"""JSON texts in a ledger, which may be damaged."""

import json

from taskfleet.errors import UnusableLedgerError
from taskfleet.invocation import poe
from taskfleet.tasks import JSON


def read_json(text: str, what: str) -> JSON:
    """Return the value of a JSON text in a ledger.

    Args:
        text: The text.
        what: What it is, for the error.

    Raises:
        UnusableLedgerError: It is not JSON.
    """
    try:
        value: JSON = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise _damaged(what, f"is not JSON ({error})") from error
    return value


def read_data(text: str, task_id: str) -> dict[str, JSON]:
    """Return the keyword arguments of a task in a ledger.

    Raises:
        UnusableLedgerError: They are not a JSON object.
    """
    what = f"data of task {task_id!r}"
    value = read_json(text, what)
    if not isinstance(value, dict):
        raise _damaged(what, "is not a JSON object")
    return value


def _damaged(what: str, how: str) -> UnusableLedgerError:
    return UnusableLedgerError(
        f"The {what} in the ledger {how}: the file is damaged. {poe('check_ledger')} lists what is wrong."
    )
