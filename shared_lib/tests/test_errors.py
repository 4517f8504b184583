"""The exit codes of the exception classes."""

import re

import pytest
from taskfleet import errors

CLASSES = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.TaskfleetError)]


@pytest.mark.parametrize("kind", CLASSES)
def test_the_overview_lists_every_class_with_its_exit_code(kind):
    [star] = re.findall(rf"^[ │├└─]*{kind.__name__}( \*)? +\w", errors.__doc__, re.MULTILINE)
    assert kind.exit_code == (2 if star else 1)
