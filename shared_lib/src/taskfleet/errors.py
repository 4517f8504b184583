"""The exceptions that this library raises on purpose.

::

    TaskfleetError                  what is wrong, where, and what to do
    ├── SettingsError *             settings are invalid or missing (one message has all errors)
    ├── MissingPackageError *       a setting needs an optional package that is not installed: ``extra``
    ├── CommandError                a command cannot run in the current state of the job
    │   └── UsageError *                flags or arguments are missing, invalid or contradict each other
    │       └── ArgumentsError *            the arguments of a function do not fit it; also a ``TypeError``
    ├── DeclinedError               the user declined a confirmation; nothing was done
    ├── TableError                  a table cannot be read or written
    ├── InsertError                 tasks cannot be inserted; none were
    ├── FunctionError               the task function cannot be found, imported or called
    │   └── NoFunctionError             there is no such function, or no such module
    ├── LedgerError                 the ledger is missing, damaged, busy or belongs to another job
    │   └── UnusableLedgerError         it is damaged, or was deleted or replaced while in use; a retry does not help
    ├── ProviderError               a service (machines, queue, bucket, price list) rejects a request
    │   ├── UnreachableError            it does not respond or is overloaded; the request may be repeated
    │   ├── CredentialsError            credentials are missing, invalid or expired
    │   ├── PermissionDeniedError       the credentials lack a permission: ``permission``, ``resource``, ``principal``
    │   ├── NotEnabledError             the account or project has not enabled the service: ``service``
    │   ├── WrongSettingError *         a setting names something that does not exist or is not accepted: ``setting``
    │   └── QueueError                  a queue is missing, belongs to another job, or holds a message of another program
    ├── StoreError                  a file of the store of large values cannot be written or read; also an ``OSError``
    │   └── LostFileError               it is missing or damaged; the task that wrote it has to run again
    ├── UnreadableValueError        the stored value of a task cannot be restored here
    ├── CatalogueError              a cached price list cannot be read
    ├── BundleError                 the project cannot be packed into a bundle
    ├── StartUpError *              the start-up script cannot be generated from the settings
    └── WrongCodeError *            a machine has different code from the bundle that its worker was sent to run

A command that raises one exits with 1, or with 2 for the classes with a ``*``: errors in settings or usage, and WrongCodeError, after which
a restart of the worker does not help.

Exceptions of a service's SDK become a ``ProviderError`` once, where the SDK is called (``clouds``, ``queues/*_errors.py``). The classes say
what is wrong, not which service reported it: ``except UnreachableError`` means the same for a queue, a bucket and a machine.

The library raises; only the command line prints and exits (``cli.main``).
"""

from typing import ClassVar


class TaskfleetError(Exception):
    """An error that the user can correct; its message is complete and is shown without a traceback."""

    exit_code: ClassVar[int] = 1
    """The exit code of a command that raises it: 1, or 2 for errors in settings or usage."""


class SettingsError(TaskfleetError):
    """Settings are invalid, or a required one is missing."""

    exit_code = 2


class CommandError(TaskfleetError):
    """A command cannot run, or did not succeed, in the current state of the job."""


class UsageError(CommandError):
    """Flags or arguments of a command are missing, invalid or contradict each other or the settings."""

    exit_code = 2


class ArgumentsError(UsageError, TypeError):
    """The arguments of a function, or of a call of an app, do not fit its parameters."""


class DeclinedError(TaskfleetError):
    """The user declined a confirmation; nothing was done, and the message is not shown as an error."""


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
    """A table of tasks or results cannot be read or written."""


class InsertError(TaskfleetError):
    """Tasks cannot be inserted; none were."""


class FunctionError(TaskfleetError):
    """The task function cannot be found or imported, or its parameters are not usable."""


class NoFunctionError(FunctionError):
    """There is no such function, or no such module."""


class LedgerError(TaskfleetError):
    """The ledger is missing, damaged, busy or belongs to another job."""


class UnusableLedgerError(LedgerError):
    """The ledger is damaged, or was deleted or replaced while it was in use; a retry does not help."""


class ProviderError(TaskfleetError):
    """A service rejects a request, for a reason that no subclass describes.

    Args:
        text: What is wrong, where, and what to do.
        code: The service's own error code, such as ``InvalidParameterValue``, ``conditionNotMet`` or an SQLSTATE; empty if it has none.
    """

    def __init__(self, text: str, *, code: str = "") -> None:
        super().__init__(text)
        self.code = code


class UnreachableError(ProviderError):
    """A service does not respond, fails temporarily or throttles requests. The request may or may not have taken effect."""


class CredentialsError(ProviderError):
    """No credentials were found, or a service rejects them as invalid, expired or revoked."""


class PermissionDeniedError(ProviderError):
    """The credentials are valid, but lack a permission.

    Args:
        text: What is wrong, where, and what to do.
        permission: The provider's name of it, such as ``ec2:RunInstances`` or ``compute.instances.create``.
        resource: The resource it is required on, as the provider names it: an ARN, a project, a bucket; empty if unknown.
        principal: The user or role that lacks it; empty if unknown.
        code: The service's own error code.
    """

    def __init__(
        self, text: str, *, permission: str = "", resource: str = "", principal: str = "", code: str = ""
    ) -> None:
        super().__init__(text, code=code)
        self.permission = permission
        self.resource = resource
        self.principal = principal


class NotEnabledError(ProviderError):
    """The account or project must first enable a service or region, or its billing.

    Args:
        text: What is wrong, where, and what to do.
        service: What to enable, such as ``compute.googleapis.com`` or a region.
        code: The service's own error code.
    """

    def __init__(self, text: str, *, service: str = "", code: str = "") -> None:
        super().__init__(text, code=code)
        self.service = service


class WrongSettingError(ProviderError):
    """A setting names something that does not exist at the provider, or that the provider does not accept.

    Args:
        text: What is wrong, where, and what to do.
        setting: The name of the setting, such as ``SUBNETS``; the first one if several are possible.
        code: The service's own error code.
    """

    exit_code = 2

    def __init__(self, text: str, *, setting: str = "", code: str = "") -> None:
        super().__init__(text, code=code)
        self.setting = setting


class QueueError(ProviderError):
    """A queue is missing, belongs to another job, or holds a message of another program."""


class StoreError(TaskfleetError, OSError):
    """A file of the store of large values cannot be written or read: the disk is full, a permission is missing, a bucket does not answer.

    Args:
        text: What is wrong, where, and what to do.
        code: The ``errno`` of the system, if there is one.
    """

    def __init__(self, text: str, *, code: int | None = None) -> None:
        super().__init__(text)
        self.errno = code


class LostFileError(StoreError):
    """A file of the store is missing or damaged; the task that wrote it has to run again."""


class UnreadableValueError(TaskfleetError):
    """The stored value of a task cannot be restored here: a newer version wrote it, or it needs a class or package that is missing."""


class CatalogueError(TaskfleetError):
    """A cached price list cannot be read."""


class BundleError(TaskfleetError):
    """The project cannot be packed into a bundle."""


class StartUpError(TaskfleetError):
    """The start-up script cannot be generated: it would contain a secret, a file is missing, or it is too long."""

    exit_code = 2


class WrongCodeError(TaskfleetError):
    """A machine has different code from the bundle that its worker was sent to run; restarting the worker does not help."""

    exit_code = 2
