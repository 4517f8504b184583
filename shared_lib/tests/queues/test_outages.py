"""Outages of a service: each command reports one once and soon, waits, and reports its end; wrong settings end it at once."""

import json
import os
import re
import signal
import time

import pytest
from taskfleet.queues.addresses import open_transport

from shared_lib.tests.queues.conftest import SERVICES
from shared_lib.tests.queues.test_whole_jobs import Place
from shared_lib.tests.services.proxy import Line, Proxy

#: After the first tasks of the process, each waits for the gate, so that the job lasts longer than the outage.
TASK = """
import itertools
import time
from pathlib import Path

begun = itertools.count()

def run_task(n):
    if next(begun) > 3:
        while not Path("gate").exists():
            time.sleep(0.1)
    return n
"""
N_TASKS = 60
PATIENCE_SECONDS = 150

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(bool(os.environ.get("LIVE_CLOUD")), reason="the real services cannot be cut off"),
]


class GatedPlace(Place):
    """A project whose tasks wait for the gate, and whose commands reach the service at a port: the service's own, or a proxy's."""

    def __init__(self, folder, service, name, port, **settings):
        super().__init__(folder, service, name, task=TASK, PROGRESS_SECONDS=3600, **settings)
        here, there = f"127.0.0.1:{service.port}", f"127.0.0.1:{port}"
        self.environment = {key: value.replace(here, there) for key, value in self.environment.items()}
        if hasattr(service, "url"):
            url = service.url(host="127.0.0.1").replace(here, there)
            self.set(QUEUE_URL=url)

    def set(self, **settings):
        """Change settings."""
        env = self.folder / "config" / "task.env"
        text = env.read_text()
        for key, value in settings.items():
            text = re.sub(rf"(?m)^{key}=.*$", lambda _, key=key, value=value: f"{key}={value}", text)
        env.write_text(text)

    def insert(self, number):
        self.write_rows(number)
        return self.run("insert_tasks")

    def write_rows(self, number):
        (self.folder / "tasks.json").write_text(json.dumps([{"task_id": f"t{n}", "n": n} for n in range(number)]))

    def has_begun(self):
        return self.counts().get("succeeded", 0) > 3

    def open_gate(self):
        (self.folder / "gate").touch()

    def counts(self):
        return {word: n for word, n in json.loads(self.run("status", "--json"))["counts"].items() if n}

    def until(self, condition):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.1)


def reports(log):
    """How often a log says that the service is away, and that it is back."""
    text = log.read_text()
    return text.count("Retrying"), text.count("is available again")


@pytest.fixture
def proxy(service):
    with Proxy(service.port) as proxy:
        yield proxy


@pytest.fixture
def home(service, name, tmp_path, proxy):
    place = GatedPlace(tmp_path / "home", service, name, proxy.port, IDLE_SECONDS=3, LEASE_SECONDS=30)
    yield place
    for process in place.processes:
        if process.poll() is None:
            process.kill()
            process.wait()
    for of_events in (False, True):
        transport = open_transport(service.queue_url(name), name, of_events=of_events)
        transport.delete()
        transport.close()


@pytest.mark.parametrize("line", [Line.CUT, Line.SILENT])
def test_everybody_reports_an_outage_once_and_works_on_after_it(home, proxy, line):
    home.insert(N_TASKS)
    worker, monitor = home.start("launch_worker", "--slots", "1"), home.start("monitor")
    home.until(home.has_begun)
    proxy.set(line)
    home.until(lambda: all(reports(log)[0] for log in home.logs))
    home.write_rows(N_TASKS + 5)
    inserting = home.start("insert_tasks")
    home.until(lambda: reports(home.logs[-1])[0])
    assert [reports(log) for log in home.logs] == [(1, 0)] * 3, home.text()
    proxy.set(Line.OPEN)
    home.until(lambda: all(reports(log)[1] for log in home.logs))
    home.open_gate()
    home.until(lambda: inserting.poll() is not None and monitor.poll() is not None)
    home.until(lambda: worker.poll() is not None)
    assert (inserting.returncode, monitor.returncode, worker.returncode) == (0, 0, 0), home.text()
    assert [reports(log) for log in home.logs] == [(1, 1)] * 3, home.text()
    assert "Traceback" not in home.text()
    found = json.loads(home.run("status", "--json"))
    assert {word: n for word, n in found["counts"].items() if n} == {"succeeded": N_TASKS + 5}


@pytest.mark.parametrize("service", ["postgresql"], indirect=True)
class TestPostgresql:
    """The server is behind a socket here; its state changes, not the network."""

    @pytest.fixture
    def working(self, service, name, tmp_path):
        place = GatedPlace(tmp_path / "home", service, name, service.port, IDLE_SECONDS=3, LEASE_SECONDS=30)
        place.insert(N_TASKS)
        place.start("launch_worker", "--slots", "1")
        place.start("monitor")
        place.until(place.has_begun)
        yield place
        for process in place.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        place.run("delete_queue", "--yes", "--force", code=None)

    def finish(self, place):
        place.open_gate()
        for process in place.processes:
            place.until(lambda process=process: process.poll() is not None)
        assert [process.returncode for process in place.processes] == [0, 0], place.text()
        assert place.counts() == {"succeeded": N_TASKS}
        assert "Traceback" not in place.text()

    def test_a_server_that_becomes_read_only_for_a_while_is_waited_for(self, working, service):
        """As in a failover to a standby, which is read-only until it is promoted."""

        def become(word):
            with service.connect() as connection:
                connection.execute("SET default_transaction_read_only = off")
                connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {word}")
                connection.execute("SELECT pg_reload_conf()")

        become("on")
        try:
            working.until(lambda: all(reports(log)[0] for log in working.logs))
            assert [reports(log) for log in working.logs] == [(1, 0)] * 2, working.text()
            assert working.text().count("there is a failover") == 2
        finally:
            become("off")
        working.until(lambda: all(reports(log)[1] for log in working.logs))
        self.finish(working)
        assert [reports(log) for log in working.logs] == [(1, 1)] * 2, working.text()

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
    def test_a_server_that_is_restarted_or_recovers_is_waited_for(self, working, service, how):
        service.halt(how)
        try:
            working.until(lambda: all(reports(log)[0] for log in working.logs))
        finally:
            service.boot()
        working.until(lambda: all(reports(log)[1] for log in working.logs))
        self.finish(working)
        assert [reports(log) for log in working.logs] == [(1, 1)] * 2, working.text()

    def test_connections_that_the_server_ends_are_made_again(self, working, service):
        for _ in range(3):
            with service.connect() as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                    "AND backend_type = 'client backend'"
                )
            time.sleep(0.5)
        self.finish(working)


@pytest.mark.parametrize("service", ["sqs", "pubsub"], indirect=True)
def test_throttling_is_reported_once_and_waited_out(home, service):
    fault = {
        "sqs": {"code": "ThrottlingException", "status": 400},
        "pubsub": {"code": "RESOURCE_EXHAUSTED"},
    }["sqs" if "sqs" in service.module else "pubsub"]
    home.insert(20)
    worker, monitor = home.start("launch_worker", "--slots", "1"), home.start("monitor")
    home.until(home.has_begun)
    service.fault("*", **fault, times=None)
    try:
        home.until(lambda: all(reports(log)[0] for log in home.logs))
    finally:
        service.clear_faults()
    home.until(lambda: all(reports(log)[1] for log in home.logs))
    home.open_gate()
    home.until(lambda: worker.poll() is not None and monitor.poll() is not None)
    assert (worker.returncode, monitor.returncode) == (0, 0), home.text()
    assert [reports(log) for log in home.logs] == [(1, 1)] * 2, home.text()
    assert home.counts() == {"succeeded": 20}


def test_a_command_that_shows_the_state_does_not_wait(home, proxy):
    home.insert(2)
    proxy.set(Line.CUT)
    said = home.run("show_queue", code=1)
    assert said.startswith("error: Queue")
    assert said.count("\n") == 1
    assert home.counts() == {"pending": 2}  # from the ledger


@pytest.mark.parametrize(
    "command", [["release"], ["purge_queue", "--yes"], ["retry", "--killed"], ["delete_queue", "--yes"]]
)
@pytest.mark.parametrize("service", SERVICES[:1], indirect=True)
def test_commands_that_change_the_queue_wait_for_the_service(home, proxy, command):
    home.insert(3)
    if command[0] == "retry":
        home.run("purge_queue", "--yes")
    proxy.set(Line.CUT)
    process = home.start(*command)
    home.until(lambda: reports(home.logs[-1])[0])
    proxy.set(Line.OPEN)
    home.until(lambda: process.poll() is not None)
    assert process.returncode == 0, home.text()
    assert reports(home.logs[-1]) == (1, 1), home.text()
