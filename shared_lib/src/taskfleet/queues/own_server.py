"""The PostgreSQL server of a project (QUEUE_URL=server): where it is recorded, and how clients find it.

``poe start_queue`` writes ``server.json``, which only the user can read, into a folder beside the ledgers, which all computers share.
Clients read it whenever they connect, so they find a server that was started again elsewhere. They try its addresses in order, and use the
first that proves to know the password (SCRAM), which no other server at this address can do.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from taskfleet.errors import QueueError, UnreachableError
from taskfleet.files import make_private_folder, write_atomically
from taskfleet.invocation import poe
from taskfleet.queues.postgresql import Connection, PostgresqlTransport
from taskfleet.settings.parsers import SERVER

#: The role and the database of the queues.
NAME = "taskfleet"
#: How long one address is tried.
ADDRESS_SECONDS = 3
_LABEL = f"QUEUE_URL={SERVER}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRecord:
    """Where the server of a project is, or where its data are."""

    host: str
    """See ``processes.identity.host``."""
    process: str
    """See ``processes.identity.identity``."""
    addresses: tuple[str, ...]
    port: int
    password: str
    data: str
    """The folder with its data, on a disk of its host."""
    version: int
    """The major version of PostgreSQL that made them."""
    job_id: str = ""
    """The batch job in which it runs, or ran."""
    has_ended: bool = False
    """Whether it was stopped in order: its data are in the folder of this record, in a file, or in ``data`` if that is there, too."""

    @property
    def hostname(self) -> str:
        """The name of the host."""
        return self.host.partition("/")[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hostname}, {', '.join(self.addresses)}, port {self.port})"


def record_path(folder: Path) -> Path:
    """Return the path of the record in the folder of a server."""
    return folder / "server.json"


def read_record(folder: Path) -> ServerRecord | None:
    """Return the record of the server; None if there was never one.

    Raises:
        QueueError: It cannot be read.
    """
    path = record_path(folder)
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return ServerRecord(**{**fields, "addresses": tuple(fields["addresses"])})
    except FileNotFoundError:
        return None
    except OSError as error:
        raise QueueError(f"{path}, the record of the queue's server, cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError, KeyError) as error:
        raise QueueError(f"{path} is not the record of a queue's server; another program has changed it.") from error


def write_record(folder: Path, record: ServerRecord) -> None:
    """Replace the record."""
    make_private_folder(folder)
    write_atomically(record_path(folder), json.dumps(asdict(record), indent=1))


def connect(record: ServerRecord, parameters: dict[str, Any], *, first: str = "") -> tuple[Connection, str]:
    """Connect to a server; return the connection and its address.

    Args:
        record: The server.
        parameters: Of the connection.
        first: The address to try first.

    Raises:
        UnreachableError: The server answers at none of its addresses.
    """
    parameters = {**parameters, "connect_timeout": ADDRESS_SECONDS, "sslmode": "disable", "gssencmode": "disable"}
    if psycopg.pq.version() >= 160000:
        parameters["require_auth"] = "scram-sha-256"
    problems: list[str] = []
    for address in sorted(record.addresses, key=lambda one: one != first):
        try:
            connection = Connection.connect(
                host=address,
                port=record.port,
                user=NAME,
                dbname=NAME,
                password=record.password,
                **parameters,
            )
            return connection, address
        except psycopg.OperationalError as error:
            problems.append(str(error).partition("\n")[0].removeprefix("connection failed: "))
    if record.has_ended:
        raise UnreachableError(f"The queue's server was stopped. Start it again: {poe('start_queue')}")
    raise UnreachableError(
        f"The queue's server on {record.hostname} does not answer ({'; '.join(problems)}). If it has ended, start it again there: "
        f"{poe('start_queue')}"
    )


def ask(record: ServerRecord, statement: LiteralString) -> list[tuple[Any, ...]]:
    """Return the rows of a statement.

    Raises:
        UnreachableError: The server does not answer.
    """
    connection, _ = connect(record, {"autocommit": True, "application_name": "taskfleet-admin"})
    with connection:
        try:
            return connection.execute(statement).fetchall()
        except psycopg.OperationalError as error:
            raise UnreachableError(f"The queue's server ended the connection: {error}") from error


class OwnServerTransport(PostgresqlTransport):
    """A queue at the project's own server; see ``PostgresqlTransport``.

    Args:
        folder: The folder of the server's record.
        name: The queue's name.
        options: Those of ``PostgresqlTransport``.
    """

    def __init__(self, folder: Path, name: str, **options: Any) -> None:
        super().__init__(f"postgresql:///{NAME}", name, **options)
        self.address = f"{SERVER}:{folder}"
        self._label = f"Queue {name!r} at {_LABEL}"
        self._folder = folder
        self._first = ""

    def _open(self, parameters: dict[str, Any]) -> Connection:
        record = read_record(self._folder)
        if record is None:
            raise QueueError(f"{_LABEL}: the server was never started. Start it: {poe('start_queue')}")
        connection, self._first = connect(record, parameters, first=self._first)
        return connection
