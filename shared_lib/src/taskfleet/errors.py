"""Every error this library raises on purpose.

::

    TaskfleetError              what was wrong, where, and what to do next
    ├── SettingsError           one or more settings are wrong (all faults in one message)
    ├── TableError              the table of tasks cannot be read or written
    ├── InsertError             the tasks cannot be inserted; nothing was
    ├── FunctionError           the task function cannot be found or imported, or its parameters are not usable
    ├── LedgerError             the ledger file is missing, damaged, busy or of another job
    ├── QueueError              a queue is missing, of another job, or its service refuses what is asked
    │   └── QueueUnreachableError   its service does not answer now; what is asked may be asked again
    ├── MachinesError           machines cannot be started, listed or ended
    │   ├── MachinesUnreachableError   their provider does not answer now; what is asked may be asked again
    │   ├── BundleError             the project cannot be packed for machines, or not be put where they get it
    │   ├── StartUpError            no start-up script can be made of what is given
    │   └── WrongCodeError          a machine does not hold the code that its worker was sent to run
    ├── CommandError            the command line asks for something that makes no sense
    └── DeclinedError           the user was asked and did not agree; nothing was done

The library raises; only the command line prints and exits (``cli.main``).
"""

from typing import ClassVar


class TaskfleetError(Exception):
    """A mistake or a state of affairs that the user can mend; its text is complete and shown without a traceback."""

    exit_code: ClassVar[int] = 1
    """What a command ends with: 1, or 2 where it cannot go better with the same code, settings and arguments."""


class SettingsError(TaskfleetError):
    """One or more settings are wrong."""


class TableError(TaskfleetError):
    """A table of tasks cannot be read or written."""


class InsertError(TaskfleetError):
    """Tasks cannot be inserted; nothing was."""


class FunctionError(TaskfleetError):
    """The task function cannot be found or imported, or its parameters are not usable."""


class LedgerError(TaskfleetError):
    """The ledger file is missing, damaged, busy or belongs to another job."""


class QueueError(TaskfleetError):
    """A queue is missing or of another job, or its service refuses: credentials, permissions, a wrong region."""


class QueueUnreachableError(QueueError):
    """A queue's service does not answer or is overloaded, after several tries."""


class MachinesError(TaskfleetError):
    """Machines cannot be started, listed or ended: credentials, permissions, a wrong name."""


class MachinesUnreachableError(MachinesError):
    """The machines' provider does not answer or is overloaded, after several tries."""


class BundleError(MachinesError):
    """The project cannot be packed for machines, or not be put where they get it."""


class StartUpError(MachinesError):
    """No start-up script can be made of what is given: a secret in it, a file that is missing, too long."""


class WrongCodeError(MachinesError):
    """A machine's folder does not hold the code that its worker was sent to run; starting it again does not help."""

    exit_code = 2


class CommandError(TaskfleetError):
    """The command line asks for something that makes no sense."""


class DeclinedError(TaskfleetError):
    """The user was asked whether to go on and did not agree; nothing was done, which is no error to be shown as one."""
