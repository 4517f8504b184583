"""Explain errors of a PostgreSQL server, and redact its addresses."""

import re
from dataclasses import dataclass
from typing import Self

from taskfleet.errors import (
    CredentialsError,
    PermissionDeniedError,
    ProviderError,
    QueueError,
    UnreachableError,
    WrongSettingError,
)
from taskfleet.redaction import redact

SCHEMES = ("postgresql://", "postgres://")


@dataclass(frozen=True, slots=True)
class Explanation:
    """An error and its remedy."""

    what: str
    remedy: str
    kind: type[ProviderError]
    """``UnreachableError`` if it may be transient."""
    code: str = ""
    """The SQLSTATE, if there is one."""

    @classmethod
    def of_statement(cls, sqlstate: str, text: str) -> Self:
        """Explain the error of a statement."""
        for prefix, remedy, kind in _STATES:
            if sqlstate.startswith(prefix):
                return cls(_one_line(text), remedy, kind, sqlstate)
        what, remedy = f"{_one_line(text)} (SQLSTATE {sqlstate})", "This is unexpected; check the server's log."
        return cls(what, remedy, ProviderError, sqlstate)

    @classmethod
    def of_connection(cls, text: str) -> Self:
        """Explain the failure or loss of a connection.

        libpq does not expose the SQLSTATE here, so the decision relies on the message text. Messages in languages other than English count
        as transient, and are shown.
        """
        for pattern, remedy, kind in _WORDS:
            if re.search(pattern, text):
                return cls(_one_line(text), remedy, kind)
        return cls(_one_line(text), "Check the address and the server's log.", UnreachableError)

    def error(self, label: str) -> ProviderError:
        """Return an exception of this library.

        Args:
            label: The queue, for messages.
        """
        text = f"{label}: {self.what}. {self.remedy}"
        if self.kind is WrongSettingError:
            return WrongSettingError(text, setting="QUEUE_URL", code=self.code)
        if self.kind is PermissionDeniedError:
            found = re.search("permission denied for (.+)", self.what)
            return PermissionDeniedError(text, resource=found[1] if found else "", code=self.code)
        return self.kind(text, code=self.code)


#: Prefixes of SQLSTATE codes, of which the first match counts, with the remedy and the exception class.
_STATES = (
    (
        "42P01",
        "Its tables do not exist: create the queue, or check the database's name and the user's search_path.",
        QueueError,
    ),
    (
        "42501",
        "Ask the database's owner to run GRANT CREATE ON SCHEMA public, or to create the queue once and run "
        "GRANT SELECT, INSERT, UPDATE, DELETE ON taskfleet_queues, taskfleet_messages, for this user.",
        PermissionDeniedError,
    ),
    ("28", "Correct the user or the password in QUEUE_URL, PGPASSWORD or ~/.pgpass.", CredentialsError),
    ("3D000", "Create the database (createdb) or correct its name in QUEUE_URL or PGDATABASE.", WrongSettingError),
    (
        "3F000",
        "Give the user a schema in its search_path, for example with CREATE SCHEMA AUTHORIZATION.",
        ProviderError,
    ),
    (
        "25006",
        "This is a read-only standby, or there is a failover; if it lasts, use the address of the primary server (or of all servers, with "
        "target_session_attrs=read-write).",
        UnreachableError,
    ),
    (
        "42",
        "Its tables belong to another version of taskfleet; update shared_lib/ on all machines, or use another database.",
        QueueError,
    ),
    ("53100", "The server's disk is full; free some space.", UnreachableError),
    (
        "533",
        "The server has no free connection; raise max_connections or put pgbouncer in front of it.",
        UnreachableError,
    ),
    ("53", "The server lacks memory or another resource; check its log.", UnreachableError),
    (
        "57014",
        "The server canceled the statement; raise statement_timeout for this user if it is set.",
        UnreachableError,
    ),
    ("57", "The server is stopping or starting.", UnreachableError),
    ("25P03", "The server ended the session; raise its timeouts for transactions.", UnreachableError),
    ("25P04", "The server ended the session; raise its timeouts for transactions.", UnreachableError),
    ("58", "The server's disk or file system failed; check its log.", UnreachableError),
    ("08", "The connection was lost; check the network and whether the server runs.", UnreachableError),
    ("40", "The server is busy with conflicting transactions.", UnreachableError),
    ("55P03", "Another session holds a lock for too long; check pg_locks.", UnreachableError),
    ("XX001", "The server's data is damaged; restore it from a backup.", ProviderError),
    ("XX002", "An index is damaged; run REINDEX TABLE taskfleet_messages.", ProviderError),
)

_BUSY_OR_FAR = "Check the network, firewalls and the load of the server."
NO_ANSWER = Explanation("the server does not answer", _BUSY_OR_FAR, UnreachableError)

#: Patterns of messages of libpq, the server and pgbouncer about failed connections. Transient states of the server come first, because
#: pgbouncer reports them as "server login failed".
_WORDS = (
    (
        r"is (starting up|shutting down)|not yet accepting|in recovery mode",
        "Wait until the server is up.",
        UnreachableError,
    ),
    (
        r"too many (?:clients|connections)|connection slots|no more connections",
        "Raise max_connections or put pgbouncer in front of the server.",
        UnreachableError,
    ),
    (
        r"password authentication failed|no password supplied|SASL|server login failed|wrong password",
        "Correct the user or the password in QUEUE_URL, PGPASSWORD or ~/.pgpass.",
        CredentialsError,
    ),
    (
        r'role ".*" does not exist|no such user',
        "Create the user (CREATE ROLE … LOGIN) or correct its name in QUEUE_URL or PGUSER.",
        CredentialsError,
    ),
    (
        r'database ".*" does not exist|no such database',
        "Create the database (createdb) or correct its name in QUEUE_URL or PGDATABASE.",
        WrongSettingError,
    ),
    (
        r"[Pp]eer authentication failed|[Ii]dent authentication failed",
        "Run as that user, or use a password and a host in QUEUE_URL.",
        CredentialsError,
    ),
    (
        r"pg_hba\.conf",
        "Ask the server's administrator to allow this user and host in pg_hba.conf; many servers require sslmode=require.",
        PermissionDeniedError,
    ),
    (
        r"permission denied for database|is not permitted to log in",
        "Ask the database's owner to run GRANT CONNECT, or ALTER ROLE … LOGIN.",
        PermissionDeniedError,
    ),
    (
        r"does not support SSL|certificate|sslmode|root\.crt",
        "Correct sslmode and sslrootcert in QUEUE_URL.",
        WrongSettingError,
    ),
    (
        r"session is (not )?read-only|hot standby mode",
        "Use the address of the primary server, or wait until there is one.",
        UnreachableError,
    ),
    (
        r"could not translate host name|Name or service",
        "Check the host in QUEUE_URL or PGHOST, and the DNS.",
        UnreachableError,
    ),
    (
        r"Connection refused|No such file or directory",
        "Start the server, or correct the host and the port in QUEUE_URL.",
        UnreachableError,
    ),
    (
        r"[Tt]imeout|timed out|unreachable|No route",
        _BUSY_OR_FAR,
        UnreachableError,
    ),
    (r"closed|lost|reset|terminat|EOF|Broken pipe", "Check the network and whether the server runs.", UnreachableError),
)


def redact_address(address: str) -> str:
    """Return an address without its secrets."""
    scheme, separator, rest = address.partition("://")
    user_info, at, place = rest.rpartition("@")
    user = user_info.partition(":")[0] + (":***" if ":" in user_info else "")
    if "[" not in place:  # if the host is missing, the password may be at the position of the port
        place = re.sub(r"^([^/?:]*):(?![0-9]*(?:[,/?]|$))[^/?]*", r"\1:***", place)
    return redact(scheme + separator + user + at + place)


def check(address: str) -> None:
    """Reject invalid addresses, before libpq takes a part of the password for a host or a port and prints it.

    Raises:
        QueueError: It has another scheme, or an "@" or "/" in its user or password.
    """
    if not address.startswith(SCHEMES):
        scheme = address.partition("://")[0] if "://" in address else ""
        raise QueueError(
            f"The address of a PostgreSQL queue must begin with postgresql://, not with {scheme + '://' if scheme else 'anything else'}."
        )
    rest = address.partition("://")[2].partition("?")[0]
    if rest.count("@") > 1 or "@" in rest.partition("/")[2]:
        raise QueueError(
            f'The address {redact_address(address)} has an "@" or "/" in its user, password or database; write %40 and %2F in QUEUE_URL, '
            "or put the password into PGPASSWORD or ~/.pgpass."
        )


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().rstrip(".")
