"""Every error this library raises on purpose.

::

    TaskfleetError                  what was wrong, where, and what to do next
    ├── SettingsError               one or more settings are wrong or missing (all faults in one message)
    ├── MissingPackageError         a setting needs an optional package that is not installed: ``extra``
    ├── TableError                  the table of tasks cannot be read or written
    ├── InsertError                 the tasks cannot be inserted; nothing was
    ├── FunctionError               the task function cannot be found or imported, or its parameters are not usable
    ├── LedgerError                 the ledger file is missing, damaged, busy or of another job
    ├── ProviderError               a service (machines, a queue, a bucket, a price list) refuses what is asked of it
    │   ├── UnreachableError            it does not answer, or has no time; the same may be asked again
    │   ├── CredentialsError            there is no login, or it is not accepted (any more)
    │   ├── PermissionDeniedError       the login lacks a permission: ``permission``, ``resource``, ``principal``
    │   ├── NotEnabledError             the account or project has not enabled the service: ``service``
    │   ├── WrongSettingError           what a setting names is not there, or the service does not take it: ``setting``
    │   └── QueueError                  a queue is missing, is of another job, or holds what is not ours
    ├── CatalogueError              what was kept of a provider's prices cannot be read
    ├── BundleError                 the project cannot be packed for machines
    ├── StartUpError                no start-up script can be made of what is given
    ├── WrongCodeError              a machine does not have the code that its worker has to run
    ├── CommandError                the command line asks for something that makes no sense
    └── DeclinedError               the user was asked and did not agree; nothing was done

What a service's own library raises becomes a ``ProviderError`` where the service is called (``clouds``, ``queues/*_faults.py``), once: the
classes say what is wrong, not whose call it was, so that ``except UnreachableError`` means the same for a queue, a bucket and a machine.

The library raises; only the command line prints and exits (``cli.main``).
"""

from typing import ClassVar


class TaskfleetError(Exception):
    """A mistake or a state of affairs that the user can correct; its text is complete and shown without a traceback."""

    exit_code: ClassVar[int] = 1
    """What a command ends with: 1, or 2 where it cannot go better with the same code, settings and arguments."""


class SettingsError(TaskfleetError):
    """One or more settings are wrong, or one is missing that is needed here."""


class MissingPackageError(TaskfleetError):
    """An optional package is not installed; a worker that is started again would lack it again.

    Args:
        text: What needs it, and the command that installs it.
        extra: The extra of this library that has the package, such as ``aws``.
    """

    exit_code = 2

    def __init__(self, text: str, *, extra: str) -> None:
        super().__init__(text)
        self.extra = extra


class TableError(TaskfleetError):
    """A table of tasks cannot be read or written."""


class InsertError(TaskfleetError):
    """Tasks cannot be inserted; nothing was."""


class FunctionError(TaskfleetError):
    """The task function cannot be found or imported, or its parameters are not usable."""


class LedgerError(TaskfleetError):
    """The ledger file is missing, damaged, busy or belongs to another job."""


class ProviderError(TaskfleetError):
    """A service refuses what is asked of it, for a reason that none of the classes below names.

    Args:
        text: What is wrong, where, and what to do.
        code: The service's own word for it, such as ``InvalidParameterValue``, ``conditionNotMet`` or an SQLSTATE; empty if it has none.
    """

    def __init__(self, text: str, *, code: str = "") -> None:
        super().__init__(text)
        self.code = code


class UnreachableError(ProviderError):
    """A service does not answer, fails for a moment or turns away so many requests. What was asked may or may not have happened."""


class CredentialsError(ProviderError):
    """No credentials were found, or a service does not accept them: wrong, expired, revoked."""


class PermissionDeniedError(ProviderError):
    """The credentials are good, and lack a permission.

    Args:
        text: What is wrong, where, and what to do.
        permission: As the provider's access management names it, such as ``ec2:RunInstances`` or ``compute.instances.create``.
        resource: What it is needed on, as the provider names it: an ARN, a project, a bucket; empty if it does not say.
        principal: Who lacks it; empty if the provider does not say.
        code: The service's own.
    """

    def __init__(
        self, text: str, *, permission: str = "", resource: str = "", principal: str = "", code: str = ""
    ) -> None:
        super().__init__(text, code=code)
        self.permission = permission
        self.resource = resource
        self.principal = principal


class NotEnabledError(ProviderError):
    """A service or a region has to be enabled first for this account or project, or paid for.

    Args:
        text: What is wrong, where, and what to do.
        service: What has to be enabled, such as ``compute.googleapis.com`` or a region.
        code: The service's own.
    """

    def __init__(self, text: str, *, service: str = "", code: str = "") -> None:
        super().__init__(text, code=code)
        self.service = service


class WrongSettingError(ProviderError):
    """What a setting names is not there at the provider, or the provider does not take it.

    Args:
        text: What is wrong, where, and what to do.
        setting: Its name, such as ``SUBNETS``; the first of several that may be to blame.
        code: The service's own.
    """

    def __init__(self, text: str, *, setting: str = "", code: str = "") -> None:
        super().__init__(text, code=code)
        self.setting = setting


class QueueError(ProviderError):
    """A queue is missing or of another job, its address is wrong, or it holds a message that is not ours."""


class CatalogueError(TaskfleetError):
    """The file in which a provider's prices were kept cannot be read."""


class BundleError(TaskfleetError):
    """The project cannot be packed for machines."""


class StartUpError(TaskfleetError):
    """No start-up script can be made of what is given: a secret in it, a file that is missing, too long."""


class WrongCodeError(TaskfleetError):
    """A machine's folder does not contain the code that its worker has to run; a restart does not help."""

    exit_code = 2


class CommandError(TaskfleetError):
    """The command line asks for something that makes no sense."""


class DeclinedError(TaskfleetError):
    """The user was asked whether to go on and did not agree; nothing was done, which is no error to be shown as one."""
