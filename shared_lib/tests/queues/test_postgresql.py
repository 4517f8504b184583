"""What is PostgreSQL's own: its errors in words, its plans, its restarts, pgbouncer."""

import copy
import json
import os
import secrets
import signal
import subprocess
import threading
import time
import traceback
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from taskfleet.errors import CredentialsError, ProviderError, UnreachableError
from taskfleet.queues import postgresql as module
from taskfleet.queues import postgresql_statements as statements
from taskfleet.queues.postgresql import PostgresqlTransport
from taskfleet.queues.postgresql_errors import Explanation, redact_address
from taskfleet.queues.transport import Outgoing

PGBOUNCER = Path("/usr/sbin/pgbouncer")


@pytest.fixture
def open_at():
    """Opens a queue at an address."""
    transports = []

    def open_at(address, name="queue", **options):
        transports.append(PostgresqlTransport(address, name, **({"patience_seconds": 1.0} | options)))
        return transports[-1]

    yield open_at
    for transport in transports:
        transport.close()


@pytest.fixture
def database(postgresql):
    """A service whose queues are in a database of their own, without tables yet."""
    own = copy.copy(postgresql)
    own.database = f"tasks_{secrets.token_hex(4)}"
    with postgresql.connect(database="postgres") as connection:
        connection.execute(f"CREATE DATABASE {own.database}")
    yield own
    with postgresql.connect(database="postgres") as connection:
        connection.execute(f"DROP DATABASE {own.database} WITH (FORCE)")


@pytest.fixture
def user(database):
    """Makes a user with no rights in the database, ``user(options)``, and gives its name; its password is "plain"."""
    names = []

    def make(options=""):
        names.append(f"user_{secrets.token_hex(4)}")
        with database.connect() as connection:
            connection.execute(f"CREATE ROLE {names[-1]} LOGIN PASSWORD 'plain' {options}")
        return names[-1]

    yield make
    with database.connect() as connection:
        for name in names:
            connection.execute(f"DROP OWNED BY {name}")
            connection.execute(f"DROP ROLE {name}")


@pytest.fixture
def queue(database, opened):
    transport = opened(database, "queue")
    transport.create(tags={"job": "a", "ü": "€"})
    return transport


def refusal(verb, pattern, *, passes=False):
    """Run something that must fail with such an error, of one line and in time, and give all that could be printed of it."""
    with pytest.raises(ProviderError, match=pattern) as error:
        verb()
    assert isinstance(error.value, UnreachableError) is passes
    assert "\n" not in str(error.value)
    return "".join(traceback.format_exception(error.value))


# --- errors ---


class TestErrors:
    def test_a_wrong_password(self, postgresql, open_at):
        transport = open_at(postgresql.url(password="hush-hush"))
        printed = refusal(
            transport.exists, r"password authentication failed.*Correct the user or the password in QUEUE_URL"
        )
        assert "hush" not in printed
        assert "owner:***@" in printed

    def test_no_password(self, postgresql, open_at, monkeypatch, tmp_path):
        monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
        address = postgresql.url().replace(f":{postgresql.password}@", "@")
        refusal(open_at(address).exists, r"no password supplied.*PGPASSWORD or ~/\.pgpass")

    def test_a_missing_database(self, postgresql, open_at):
        refusal(open_at(postgresql.url(database="absent")).exists, r'database "absent" does not exist.*createdb')

    def test_a_missing_user_is_reported_like_a_wrong_password(self, postgresql, open_at):
        refusal(open_at(postgresql.url(user="nobody-here")).exists, r"Correct the user or the password")

    def test_encryption_that_the_server_does_not_have(self, postgresql, open_at):
        address = postgresql.url(host="127.0.0.1") + "?sslmode=require"
        refusal(open_at(address).exists, r"does not support SSL.*Correct sslmode")

    def test_an_address_from_which_the_server_accepts_no_connection(self, postgresql, open_at):
        rules = postgresql.data / "pg_hba.conf"
        before = rules.read_text()
        try:
            rules.write_text("local all all scram-sha-256\n")
            with postgresql.connect() as connection:
                connection.execute("SELECT pg_reload_conf()")
            deadline = time.monotonic() + 20
            while "reloading" not in postgresql.log() and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(0.5)
            refusal(open_at(postgresql.url(host="127.0.0.1")).exists, r"no pg_hba\.conf entry.*allow this user")
        finally:
            rules.write_text(before)
            with postgresql.connect() as connection:
                connection.execute("SELECT pg_reload_conf()")

    def test_a_server_that_does_not_run(self, tmp_path, open_at):
        began = time.monotonic()
        refusal(
            open_at(f"postgresql://u:hush@/db?host={tmp_path}").exists,
            r"Queue 'queue' at postgresql://u:\*\*\*@/db\S*: .*Start the server",
            passes=True,
        )
        assert 0.4 < time.monotonic() - began < 15

    def test_a_missing_host(self, open_at):
        refusal(open_at("postgresql://u@no-such-host.invalid/db").exists, "Check the host in QUEUE_URL", passes=True)

    def test_too_many_connections(self, database, user, open_at):
        name = user("CONNECTION LIMIT 0")
        address = database.url(user=name, password="plain")
        refusal(open_at(address).exists, "too many connections.*Raise max_connections", passes=True)

    def test_a_user_without_permission_to_create_tables(self, database, user, open_at):
        transport = open_at(database.url(user=user(), password="plain"))
        refusal(
            lambda: transport.create(tags={}), r"permission denied for schema public\. .*GRANT CREATE ON SCHEMA public"
        )
        assert not transport.exists()

    def test_a_user_who_may_only_use_the_tables(self, database, queue, user, open_at):
        name = user()
        transport = open_at(database.url(user=name, password="plain"), "other")
        refusal(transport.exists, r"permission denied for table taskfleet_queues\. .*GRANT SELECT, INSERT")
        with database.connect() as connection:
            connection.execute(
                f"GRANT SELECT, INSERT, UPDATE, DELETE ON taskfleet_queues, taskfleet_messages TO {name}"
            )
        transport.create(tags={})
        transport.send([Outgoing("1"), Outgoing("2")])
        first, second = transport.receive(2, wait_seconds=0, lease_seconds=60)
        transport.extend([first.receipt], 0)
        transport.acknowledge([second.receipt])
        transport.purge()
        transport.delete()

    def test_a_database_without_tables(self, database, open_at):
        transport = open_at(database.url())
        assert not transport.exists()
        transport.delete()
        for verb in (transport.size, transport.purge, lambda: transport.send([Outgoing("1")])):
            refusal(verb, "tables do not exist: create the queue")

    def test_a_missing_queue(self, database, queue, open_at):
        refusal(
            open_at(database.url(), "b").size,
            r"Queue 'b' at \S+ does not exist\. Insert tasks first \((uv run )?poe insert_tasks\)",
        )

    def test_tables_of_another_version(self, database, queue, open_at):
        with database.connect() as connection:
            connection.execute("ALTER TABLE taskfleet_messages RENAME deliveries TO tries")
        refusal(queue.size, "belong to another version of taskfleet; update shared_lib/")

    def test_a_read_only_server(self, database, queue, user, open_at):
        name = user("IN ROLE pg_write_all_data, pg_read_all_data")
        with database.connect() as connection:
            connection.execute(f"ALTER ROLE {name} SET default_transaction_read_only = on")
        transport = open_at(database.url(user=name, password="plain"))
        refusal(
            lambda: transport.send([Outgoing("1")]),
            "cannot execute SELECT in a read-only transaction.*primary server",
            passes=True,
        )
        with database.connect() as connection:  # as after a switch of servers: the next call finds it
            connection.execute(f"ALTER ROLE {name} RESET default_transaction_read_only")
        transport.send([Outgoing("1")])

    @pytest.mark.parametrize(
        ("code", "pattern", "passes"),
        [
            ("53100", "disk is full; free", True),
            ("53200", "lacks memory", True),
            ("57014", "statement_timeout", True),
            ("57P01", "stopping or starting", True),
            ("25006", "failover", True),
            ("25P03", "timeouts", True),
            ("58030", "file system failed", True),
            ("40P01", "conflicting", True),
            ("XX001", "restore it", False),
            ("22003", r"SQLSTATE 22003.*unexpected", False),
        ],
    )
    def test_errors_of_the_server_during_a_statement(self, database, queue, open_at, code, pattern, passes):
        """A trigger raises the error, since a disk cannot be filled here; code and words are the server's."""
        with database.connect() as connection:
            connection.execute(
                f"CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'it failed' USING ERRCODE = '{code}'; END $$"
            )
            connection.execute(
                "CREATE TRIGGER t BEFORE INSERT ON taskfleet_messages FOR EACH ROW EXECUTE FUNCTION fail()"
            )
        transport = open_at(database.url())
        refusal(lambda: transport.send([Outgoing("1")]), f"it failed.*{pattern}", passes=passes)
        assert transport.size().ready == 0
        with database.connect() as connection:
            connection.execute("DROP TRIGGER t ON taskfleet_messages")
        transport.send([Outgoing("1")])

    @pytest.mark.parametrize(
        "address",
        [
            "postgresql://u:hush@hush@host/db",
            "postgresql://u:hush/hush@host/db",
            "postgresql://u:hush@host:hush/db",
            "postgresql://u:hush/db",
            "postgresql://u:%zzhush@host/db",
            "postgresql://u:hush@host/db?queue=a",
            "postgresql://u@host/db?password=hush&port=x",
            "postgresql://u@host/db?sslpassword=hush&x",
            "postgresql+psycopg://u:hush@host/db",
            "mysql://u:hush@host/db",
            "host=h password=hush",
            "hush",
            "",
        ],
    )
    def test_an_invalid_address_is_rejected_without_its_password(self, address):
        printed = refusal(
            lambda: PostgresqlTransport(address, "queue", patience_seconds=1), "QUEUE_URL|must begin with|is not valid"
        )
        assert "hush" not in printed

    @pytest.mark.parametrize("name", ["", "a\0b"])
    def test_an_invalid_queue_name(self, name):
        refusal(lambda: PostgresqlTransport("postgresql:///db", name), "is not a valid queue name")

    def test_a_receipt_of_another_service(self, queue):
        for receipt in ("AQEB==", "1-", "1-1-1", "-1-1", "\u0661-1"):
            refusal(lambda receipt=receipt: queue.acknowledge([receipt]), "is not a valid receipt")

    def test_text_that_is_not_unicode(self, queue):
        refusal(
            lambda: queue.send([Outgoing("1"), Outgoing("\ud800")]), "nothing was sent, a message is not valid Unicode"
        )
        assert queue.size().ready == 0

    @pytest.mark.parametrize(
        ("text", "kind"),
        [
            ("FATAL: server login failed: FATAL the database system is starting up", UnreachableError),
            ("FATAL: server login failed: FATAL sorry, too many clients already", UnreachableError),
            ("FATAL: server login has been failing, try again later (server_login_retry)", UnreachableError),
            ("FATAL: pgbouncer cannot connect to server", UnreachableError),
            ("FATAL: the database system is shutting down", UnreachableError),
            ("FATAL: server login failed: FATAL password authentication failed for user a", CredentialsError),
        ],
    )
    def test_what_pgbouncer_reports_of_its_server(self, text, kind):
        assert Explanation.of_connection(text).kind is kind

    def test_words_in_another_language_pass(self):
        assert Explanation.of_connection("Passwort-Authentifizierung fehlgeschlagen").kind is UnreachableError


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("postgresql:///db", "postgresql:///db"),
        ("postgresql://u@h:1/db", "postgresql://u@h:1/db"),
        ("postgresql://u:p@h/db?sslmode=require", "postgresql://u:***@h/db?sslmode=require"),
        ("postgres://:p@h,g/db", "postgres://:***@h,g/db"),
        ("postgresql://u:p@x/p@h/db", "postgresql://u:***@h/db"),
        ("postgresql://[::1]:5432/db", "postgresql://[::1]:5432/db"),
        ("postgresql://a:1,b:2/db", "postgresql://a:1,b:2/db"),
        ("postgresql://h/db?user=u&PASSWORD=p&port=1", "postgresql://h/db?user=u&PASSWORD=***&port=1"),
    ],
)
def test_addresses_are_shown_without_passwords(address, expected):
    assert redact_address(address) == expected


def test_missing_parts_of_the_address_come_from_the_environment(database, queue, open_at, monkeypatch, tmp_path):
    queue.send([Outgoing("1")])
    monkeypatch.setenv("PGHOST", str(database.folder))
    monkeypatch.setenv("PGPORT", str(database.port))
    monkeypatch.setenv("PGUSER", "owner")
    secret = tmp_path / "pgpass"
    secret.write_text(f"*:*:*:owner:{database.password}\n")
    secret.chmod(0o600)
    with monkeypatch.context() as context:
        context.setenv("PGPASSFILE", str(secret))
        assert open_at(f"postgresql:///{database.database}").size().ready == 1
    monkeypatch.setenv("PGPASSWORD", database.password)
    assert open_at(f"postgresql:///{database.database}").size().ready == 1


def test_any_encoding_of_the_database_will_do(postgresql, open_at):
    with postgresql.connect(database="postgres") as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    transport = open_at(postgresql.url(database="latin"))
    try:
        transport.create(tags={})
        transport.send([Outgoing("😀\0")])
        assert transport.receive(1, wait_seconds=0, lease_seconds=9)[0].body == "😀\0"
    finally:
        transport.close()
        with postgresql.connect(database="postgres") as connection:
            connection.execute("DROP DATABASE latin WITH (FORCE)")


# --- rows ---


def rows(service, statement="SELECT count(*) FROM taskfleet_messages"):
    with service.connect() as connection:
        return connection.execute(statement).fetchall()


def test_tags_are_kept_as_first_given(database, queue):
    queue.create(tags={"job": "b"})
    assert rows(database, "SELECT name, tags FROM taskfleet_queues") == [("queue", {"job": "a", "ü": "€"})]


def test_purging_and_deleting_leave_no_rows(database, queue, opened, monkeypatch):
    monkeypatch.setattr(module, "SWEPT_MESSAGES", 700)
    other = opened(database, "other")
    other.create(tags={})
    other.send([Outgoing("1")] * 5)
    queue.send([Outgoing("1")] * 4000)
    queue.send([Outgoing("1", 500)] * 10)
    held = queue.receive(50, wait_seconds=0, lease_seconds=60)
    queue.purge()
    assert rows(database) == [(5,)]
    assert queue.extend([message.receipt for message in held], 60) == {message.receipt for message in held}
    queue.send([Outgoing("1")] * 30)
    queue.delete()
    assert rows(database) == [(5,)]
    assert other.size().ready == 5


def test_messages_without_a_queue_go_with_the_next_that_is_deleted(database, queue):
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO taskfleet_messages (queue_id, ready_at, body) SELECT 1000 + n % 3, now(), '' FROM generate_series(1, 30) AS n"
        )
    queue.send([Outgoing("1")])
    queue.purge()
    assert rows(database) == [(0,)]


def test_a_lease_that_ended_unnoticed_can_be_extended(database, queue):
    queue.send([Outgoing("1")] * 2)
    first, second = queue.receive(2, wait_seconds=0, lease_seconds=5)
    database.advance(6)
    assert queue.extend([first.receipt], 60) == set()
    assert queue.size().leased == 1
    queue.acknowledge([second.receipt])
    assert queue.size().ready == 0


def test_a_receipt_of_another_queue_has_no_effect(database, queue, opened):
    other = opened(database, "other")
    other.create(tags={})
    queue.send([Outgoing("1")])
    [held] = queue.receive(1, wait_seconds=0, lease_seconds=60)
    assert other.extend([held.receipt], 0) == {held.receipt}
    other.acknowledge([held.receipt])
    assert queue.size().leased == 1


def test_a_wait_asks_the_server_only_now_and_then(database, queue, opened):
    transactions = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
    [(before,)] = rows(database, transactions)
    assert opened(database, "queue").receive(1, wait_seconds=3, lease_seconds=60) == []
    deadline = time.monotonic() + 5  # the server takes a moment to count
    while (now := rows(database, transactions)[0][0]) < before + 5 and time.monotonic() < deadline:
        time.sleep(0.5)
    assert before + 5 <= now < before + 100


def test_big_and_many_messages_are_sent_in_several_statements(database, queue, monkeypatch):
    monkeypatch.setattr(module, "BATCH_BYTES", 1000)
    monkeypatch.setattr(module, "BATCH_MESSAGES", 7)
    sent = [f"{n}" + "x" * (n % 5) * 400 for n in range(100)]
    queue.send([Outgoing(body) for body in sent])
    assert Counter(
        bytes(body).decode() for (body,) in rows(database, "SELECT body FROM taskfleet_messages")
    ) == Counter(sent)
    by_statement = "SELECT count(*), sum(octet_length(body)) FROM taskfleet_messages GROUP BY xmin::text"
    batches = rows(database, by_statement)
    assert len(batches) > 100 / 7
    assert all(n <= 7 and (size <= 1000 or n == 1) for n, size in batches)


def test_vacuum_is_configured_to_run_early(database, queue):
    [(options,)] = rows(database, "SELECT reloptions FROM pg_class WHERE relname = 'taskfleet_messages'")
    assert {"autovacuum_vacuum_scale_factor=0.02", "autovacuum_vacuum_cost_delay=0"} <= set(options)


def test_the_table_does_not_grow_with_what_has_gone_through(database, queue):
    def go_through():
        queue.send([Outgoing("x" * 100)] * 5000)
        while messages := queue.receive(1000, wait_seconds=0, lease_seconds=60):
            queue.acknowledge([message.receipt for message in messages])
        with database.connect() as connection:
            connection.execute("VACUUM taskfleet_messages")
        return rows(database, "SELECT pg_table_size('taskfleet_messages')")[0][0]

    sizes = [go_through() for _ in range(5)]
    assert max(sizes) <= 2 * sizes[0]


def nodes(plan):
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)


def plan_of(service, statement, **values):
    """Give the plan's nodes and how many pages it has looked at; what it does is undone."""
    with service.connect() as connection, connection.transaction(force_rollback=True):
        [(answer,)] = connection.execute(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement, {"name": "queue", **values}
        )
    plan = answer[0]["Plan"]
    return list(nodes(plan)), plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


@pytest.mark.parametrize("state", ["never analyzed", "analyzed when empty", "analyzed", "with as many dropped"])
def test_statements_use_the_index_among_100_000_messages(database, queue, state):
    if state == "analyzed when empty":
        with database.connect() as connection:
            connection.execute("ANALYZE taskfleet_messages")
    queue.send([Outgoing("x" * 200)] * 100_000)
    if state == "with as many dropped":
        while messages := queue.receive(5000, wait_seconds=0, lease_seconds=60):
            queue.acknowledge([message.receipt for message in messages])
        queue.send([Outgoing("x" * 200)] * 100_000)
        queue.receive(10, wait_seconds=0, lease_seconds=0)  # steps over the dropped ones, once for all
    if state == "analyzed":
        with database.connect() as connection:
            connection.execute("ANALYZE taskfleet_messages")
    held = queue.receive(100, wait_seconds=0, lease_seconds=60)
    receipts = queue._held([message.receipt for message in held])
    for statement, values in (
        (statements.RECEIVE, {"most": 10, "most_bytes": 1000, "lease_seconds": 30.0}),
        (statements.RECEIVE, {"most": 1000, "most_bytes": 1000, "lease_seconds": 30.0}),
        (statements.EXTEND, {**receipts, "lease_seconds": 30.0}),
        (statements.ACKNOWLEDGE, receipts),
    ):
        found, pages = plan_of(database, statement, **values)
        scans = [
            node["Node Type"]
            for node in found
            if node.get("Relation Name") == "taskfleet_messages" and "Scan" in node["Node Type"]
        ]
        assert scans
        assert "Seq Scan" not in scans, statement
        assert pages < 40_000, statement
    began = time.monotonic()
    for _ in range(20):
        assert len(queue.receive(10, wait_seconds=0, lease_seconds=60)) == 10
    assert time.monotonic() - began < 10


# --- many at once, and servers that end ---


@pytest.mark.slow
def test_twenty_processes_make_the_tables_at_once(database, children, open_at):
    workers = [children(database, f"queue-{n % 3}", "create", body=str(n)) for n in range(20)]
    assert all(json.loads(worker.stdout.readline()) == "ready" for worker in workers)
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    assert [json.loads(worker.stdout.readline()) for worker in workers] == ["done"] * 20
    assert sum(open_at(database.url(), f"queue-{n}").size().ready for n in range(3)) == 20


@pytest.mark.slow
def test_twenty_processes_drop_each_message_once(database, queue, children):
    workers = [children(database, "queue", "work", most=20, wait_seconds=2) for _ in range(20)]
    assert all(json.loads(worker.stdout.readline()) == "ready" for worker in workers)
    sent = [str(n) for n in range(20_000)]
    queue.send([Outgoing(body) for body in sent])
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    dropped = [json.loads(worker.stdout.readline()) for worker in workers]
    assert Counter(body for part in dropped for body in part) == Counter(sent)
    assert sum(1 for part in dropped if part) > 10
    assert rows(database) == [(0,)]


@contextmanager
def sending(service, opened):
    """Send numbers, one by one, as long as the block lasts; gives what has been taken, and failures."""
    transport, sent, failures, over = opened(service, "queue"), [], [], threading.Event()

    def send():
        try:
            while not over.is_set():
                transport.send([Outgoing(str(len(sent)))])
                sent.append(str(len(sent)))
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield sent, failures
    finally:
        over.set()
        thread.join()


def wait_for_more(sent, number=50):
    goal, deadline = len(sent) + number, time.monotonic() + 30
    while len(sent) < goal:
        assert time.monotonic() < deadline, "nothing more is sent"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "restarted"])
def test_a_server_that_ends_and_comes_back_has_lost_nothing(postgresql, database, queue, opened, how):
    queue.send([Outgoing("held")])
    [held] = queue.receive(1, wait_seconds=0, lease_seconds=300)
    with sending(database, opened) as (sent, failures):
        for _ in range(2):
            wait_for_more(sent)
            postgresql.halt(how)
            time.sleep(0.3)
            postgresql.boot()
        wait_for_more(sent)
    assert not failures
    assert queue.extend([held.receipt], 300) == set()  # the lease and the receipt have outlived the server
    seen = Counter()
    while messages := queue.receive(500, wait_seconds=0, lease_seconds=300):
        seen.update(message.body for message in messages)
        queue.acknowledge([message.receipt for message in messages])
    assert set(sent) <= set(seen)
    assert set(seen) - set(sent) <= {str(len(sent))}
    assert sum(seen.values()) - len(seen) <= 2  # sent twice, where the answer was lost
    queue.acknowledge([held.receipt])
    assert rows(database) == [(0,)]


def test_a_connection_that_is_ended_is_made_again(database, queue):
    queue.send([Outgoing("1")])
    with database.connect() as connection:
        ended = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'taskfleet' AND datname = %s",
            (database.database,),
        ).fetchone()
    assert ended == (1,)
    assert queue.receive(1, wait_seconds=0, lease_seconds=60)[0].body == "1"


def test_a_locked_row_does_not_block_receivers(database, queue):
    queue.send([Outgoing(str(n)) for n in range(3)])
    with database.connect() as connection, connection.transaction():
        connection.execute("SELECT FROM taskfleet_messages ORDER BY id LIMIT 1 FOR UPDATE")
        began = time.monotonic()
        assert len(queue.receive(3, wait_seconds=0, lease_seconds=60)) == 2
        assert time.monotonic() - began < 10


def test_interrupted_waits_leave_the_transport_usable(queue):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.7)
    try:
        with pytest.raises(KeyboardInterrupt):
            queue.receive(1, wait_seconds=60, lease_seconds=60)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    queue.send([Outgoing("1")])
    assert len(queue.receive(1, wait_seconds=0, lease_seconds=60)) == 1


# --- pgbouncer ---


@pytest.fixture
def bouncer(database, tmp_path, lacking):
    """The address of a pgbouncer in transaction mode with one connection to the server."""
    if not PGBOUNCER.exists():
        lacking("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
    from_service = type(database).boot.__globals__
    folder = database.folder / f"bouncer-{database.database}"
    folder.mkdir()
    port = from_service["free_port"]()
    (folder / "users").write_text(f'"owner" "{database.password}"\n')
    (folder / "bouncer.ini").write_text(
        f"[databases]\n* = host={database.folder} port={database.port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = plain\nauth_file = {folder}/users\n"
        "pool_mode = transaction\ndefault_pool_size = 1\nignore_startup_parameters = extra_float_digits\n"
    )
    for path in (folder, *folder.iterdir()):
        os.chmod(path, 0o755 if path.is_dir() else 0o644)
    with open(tmp_path / "log", "wb") as log:
        command = [*from_service["as_user"](), PGBOUNCER, folder / "bouncer.ini"]
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    address = f"postgresql://owner:{database.password}@127.0.0.1:{port}/{database.database}"
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(address).close()
                break
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.05)
        yield address
    finally:
        process.kill()
        process.wait()


def test_transactions_can_be_pooled(bouncer, open_at):
    one, two = open_at(bouncer), open_at(bouncer)
    one.create(tags={})
    for n in range(12):  # by then psycopg would have prepared statements
        two.send([Outgoing(str(n))] * 3)
        messages = one.receive(3, wait_seconds=0, lease_seconds=60)
        assert len(messages) == 3
        assert one.extend([messages[0].receipt], 0) == set()
        two.acknowledge([message.receipt for message in messages[1:]])
        two.acknowledge([message.receipt for message in two.receive(1, wait_seconds=0, lease_seconds=60)])
    assert two.size().ready == 0
    one.delete()
    assert not two.exists()


def test_a_database_that_pgbouncer_does_not_find(bouncer, open_at):
    refusal(open_at(bouncer.rpartition("/")[0] + "/absent").exists, r"does not exist|no such database")
