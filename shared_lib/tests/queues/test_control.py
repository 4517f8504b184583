"""Cancel tasks and pause jobs whose tasks are at a service: by what the service has, or by an object in a bucket."""

import os
import signal
import threading
import time

import boto3
import pytest
from taskfleet.ledger import cancelling, control, recording
from taskfleet.ledger.cancelling import Selection
from taskfleet.ledger.database import create, open_ledger
from taskfleet.messages import control as documents
from taskfleet.messages.control import ControlDocument
from taskfleet.messages.formats import ForeignMessageError, NewerFormatError
from taskfleet.queues.control import ControlReader, DocumentTooLargeError
from taskfleet.queues.control_channels import open_channel
from taskfleet.queues.health import ServiceHealth
from taskfleet.queues.job import JobQueues
from taskfleet.queues.pubsub_control import PubSubControl
from taskfleet.queues.sqs_control import SqsControl
from taskfleet.queues.transport import Outgoing
from taskfleet.settings import read_configuration

from shared_lib.tests.queues.test_whole_jobs import Place, Whole

PATIENCE_SECONDS = 200

TASK = """
import os, subprocess, time

def run_task(n):
    note(f"began {n}")
    child = subprocess.Popen(["sleep", "1000"])
    note(f"pid{n} {os.getpid()} {child.pid}")
    while not os.path.exists(os.path.join(os.environ["NOTES"], f"gate{n}")):
        time.sleep(0.01)
    child.kill()
    child.wait()
    note(f"ended {n}")
    return n

def note(word):
    fd = os.open(os.path.join(os.environ["NOTES"], "notes"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{word}\\n".encode())
    os.close(fd)
"""


class Steered(Whole):
    """A job that is steered while it is worked on."""

    def __init__(self, service, name, folder, environment, **settings):
        super().__init__(service, name, folder, task=TASK, **settings)
        self.notes = folder / "notes"
        self.notes.mkdir()
        for place in (self.home, *self.machines):
            place.environment = place.environment | environment | {"NOTES": str(self.notes)}

    def noted(self):
        file = self.notes / "notes"
        return file.read_text().splitlines() if file.exists() else []

    def until(self, condition, what):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (value := condition()):
            texts = "\n".join(place.text() for place in (self.home, *self.machines))
            assert time.monotonic() < deadline, f"{what}: {self.counts()} {self.noted()}\n{texts}"
            time.sleep(0.05)
        return value

    def open_gate(self, n):
        (self.notes / f"gate{n}").touch()

    def ids(self):
        """The ids of the tasks, by number."""
        database = open_ledger(self.home.folder / "jobs" / f"{self.name}.db", job_id=self.name, read_only=True)
        try:
            return [task_id for (task_id,) in database.rows("SELECT id FROM task ORDER BY seq")]
        finally:
            database.close()

    def cancelled(self):
        database = open_ledger(self.home.folder / "jobs" / f"{self.name}.db", job_id=self.name, read_only=True)
        try:
            return control.cancelled(database)
        finally:
            database.close()

    def running(self, number):
        """Wait until ``number`` tasks run, and return their numbers."""

        def begun():
            return [int(one.split()[1]) for one in self.noted() if one.startswith("began ")]

        self.until(lambda: len(begun()) == number, f"{number} running tasks")
        return begun()

    def pids(self, n):
        """The processes of a task."""
        line = self.until(lambda: [one for one in self.noted() if one.startswith(f"pid{n} ")], f"task {n}")[0]
        return [int(word) for word in line.split()[1:]]

    def close(self):
        for place in (self.home, *self.machines):
            for process in place.processes:
                if process.poll() is None:
                    os.kill(process.pid, signal.SIGKILL)
                    process.wait()


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(params=[False, True], ids=["", "bucket"])
def bucket(service, request, monkeypatch):
    """The settings and variables of a bucket beside a service that can use one; none without."""
    name = type(service).__name__
    if not request.param:
        return {}, {}
    if name.startswith("Postgresql"):
        pytest.skip("BUCKET makes no difference to PostgreSQL")
    if name.startswith("Sqs"):
        address = request.getfixturevalue("s3_address")
        environment = {"AWS_ENDPOINT_URL_S3": address, **service.environment()}
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        client = boto3.client("s3", endpoint_url=address, region_name="us-east-1")
        client.create_bucket(Bucket="code")
        return {"BUCKET": "s3://code/some/folder"}, environment
    environment = {"STORAGE_EMULATOR_HOST": request.getfixturevalue("gs_address")}
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", environment["STORAGE_EMULATOR_HOST"])
    return {"BUCKET": "gs://code/some/folder"}, environment


@pytest.fixture
def steered(service, name, tmp_path, bucket):
    settings, environment = bucket
    job = Steered(service, name, tmp_path, environment, TASKS_PER_MESSAGE=2, SLOTS=2, **settings)
    yield job
    job.close()
    job.home.run("delete_queue", "--yes", "--force", code=None)


@pytest.mark.slow
def test_running_and_sent_tasks_are_cancelled(steered):
    steered.insert([{"n": n} for n in range(8)])
    ids = steered.ids()
    worker = steered.machines[0].start("launch_worker")
    steered.home.start("monitor")
    victim, other = steered.running(2)
    steered.until(lambda: steered.counts().get("running", 0) >= 2, "the events of the leases")
    pending = next(n for n in range(8) if n not in (victim, other))
    assert "Cancelled 2 tasks" in steered.home.run("cancel", ids[victim], ids[pending])
    steered.until(lambda: not any(map(is_alive, steered.pids(victim))), "the end of the cancelled task's processes")
    assert all(map(is_alive, steered.pids(other)))
    for n in range(8):
        if n != victim:
            steered.open_gate(n)
    steered.until(lambda: steered.counts() == {"succeeded": 6, "killed": 2}, "the end of the job")
    steered.until(lambda: steered.cancelled() == [], "the drop of the other's message")
    worker.wait(PATIENCE_SECONDS)
    assert f"ended {victim}" not in steered.noted()
    assert f"began {pending}" not in steered.noted()
    steered.open_gate(victim)
    steered.home.run("retry", "--killed")
    steered.machines[1].run("launch_worker")
    steered.home.run("monitor")
    assert steered.counts() == {"succeeded": 8}


@pytest.mark.slow
def test_a_pause_reaches_workers_at_a_service(steered):
    steered.insert([{"n": n} for n in range(8)])
    worker = steered.machines[0].start("launch_worker")
    monitor = steered.home.start("monitor")
    running = steered.running(2)
    steered.home.run("pause")
    assert "The job is paused" in steered.home.run("status")
    assert "The job is paused, so this worker ends." in steered.machines[1].run("launch_worker")
    steered.until(lambda: "The job is paused: no task starts" in steered.machines[0].text(), "the worker's message")
    for n in range(8):
        steered.open_gate(n)
    worker.wait(PATIENCE_SECONDS)
    steered.until(lambda: steered.counts() == {"succeeded": 2, "pending": 6}, "the events")
    assert {one for one in steered.noted() if one.startswith("began")} == {f"began {n}" for n in running}
    steered.home.run("resume")
    steered.machines[1].run("launch_worker")
    monitor.wait(PATIENCE_SECONDS)
    assert steered.counts() == {"succeeded": 8}


@pytest.mark.slow
def test_a_pause_moves_along_to_another_queue(steered, opened):
    if type(steered.service).__name__.startswith("Postgresql"):
        pytest.skip("a job has one queue in a database")
    steered.insert([{"n": n} for n in range(3)])
    steered.home.run("pause")
    target, old = opened(steered.service, f"{steered.name}-new"), opened(steered.service, steered.name)
    steered.home.run("move_queue", "--to", target.address, "--yes")
    assert not old.exists()
    configuration = read_configuration(flags={}, env_file=None, environ={}, start=steered.home.folder)
    channel = open_channel(configuration, queue_url=target.address)
    assert documents.unpack(channel.read()).is_paused
    channel.delete()
    channel.close()
    for one in (target, opened(steered.service, f"{steered.name}-new-events")):
        one.delete()


# --- the channels ---


@pytest.fixture
def channel(service, name, bucket, opened, tmp_path):
    """Opens the channel of a job."""
    opened(service, name).create(tags={"a": "b"})
    place = Place(tmp_path / "project", service, name, **bucket[0])
    configuration = read_configuration(flags={}, env_file=None, environ={}, start=place.folder)
    channels = []

    def open_control():
        channels.append(open_channel(configuration))
        return channels[-1]

    yield open_control
    channels[0].delete()
    opened(service, name).delete()
    for one in channels:
        one.close()


def document(version, *, ledger="1.5", cancelled=()):
    return documents.pack(ControlDocument(job_id="job", ledger=ledger, version=version, cancelled=cancelled))


def test_a_channel_returns_a_text_once(channel, service):
    one, two = channel(), channel()
    assert one.read() is None
    two.write('{"a":"ä"}')
    assert one.read() == '{"a":"ä"}'
    assert one.read() is None
    two.write("x" * 300_000)
    two.write("y" * 300_000)
    assert one.read() == "y" * 300_000
    assert channel().read() == "y" * 300_000
    two.delete()
    assert one.read() is None
    service.advance(60)  # SQS makes no queue again before that
    two.write("again")
    assert one.read() == "again"


def test_many_workers_read_what_one_of_several_writers_wrote_last(channel):
    readers, writers = [channel() for _ in range(5)], [channel() for _ in range(2)]
    for version in range(1, 13):
        writers[version % 2].write(document(version))
        assert {reader.read() for reader in readers} == {document(version)}
    assert channel().read() == document(12)


def test_of_what_two_writers_left_at_sqs_the_newest_counts(running, name, opened):
    """A writer that was killed after it had written left the document before, too, and SQS keeps no order."""
    service = running("sqs")
    one = SqsControl(opened(service, f"{name}-board"), {"a": "b"})
    board = opened(service, f"{name}-board")
    assert one.read() is None
    board.create(tags={"a": "b"})
    board.send([Outgoing(document(version)) for version in (3, 2, 1)])
    assert one.read() == document(3)
    one.write(document(4))
    assert [SqsControl(opened(service, f"{name}-board"), {}).read() for _ in range(3)] == 3 * [document(4)]
    service.advance(60)  # what was replaced does not come back
    assert one.read() == document(4)
    [left] = board.receive(10, wait_seconds=0, lease_seconds=0)
    assert left.body == document(4)
    board.delete()


@pytest.mark.parametrize("message", ["other", document(5)])
def test_an_older_document_of_the_ledger_changes_nothing(message):
    texts = [document(6, cancelled=[(1, 2)]), message]
    looks = threading.Semaphore(0)

    class Texts:
        look_seconds = 0.0

        def read(self):
            looks.release()
            return texts.pop(0) if texts else None

        def close(self):
            """Nothing is open."""

    reader = ControlReader(Texts, job_id="job", health=ServiceHealth())
    for _ in range(3):
        looks.acquire()
    reader.stop()
    assert reader.document.version == 6


def test_labels_of_others_stay_and_so_many_cancelled_tasks_fit(running, name, opened):
    service = running("pubsub")
    queue = opened(service, name)
    queue.create(tags={"mine": "yes"})
    one, two = PubSubControl(opened(service, name)), PubSubControl(opened(service, name))
    runs = [(n * n, n * n) for n in range(1, 300)]
    one.write(document(1, cancelled=runs))
    assert documents.unpack(two.read()).cancelled == runs
    assert queue.labels()["mine"] == "yes"
    with pytest.raises(DocumentTooLargeError, match="Set BUCKET"):
        one.write(document(2, cancelled=[(n * n, n * n) for n in range(1, 5000)]))
    assert two.read() is None
    one.write(document(3))
    assert len(queue.labels()) == len({"mine"}) + 3  # nothing is left of the longer one
    assert two.read() == document(3)
    queue.set_labels(queue.labels() | {"taskfleet-control-00": "changed"})
    with pytest.raises(ForeignMessageError):
        documents.unpack(two.read())
    one.delete()
    assert queue.labels() == {"mine": "yes"}
    queue.delete()


@pytest.mark.parametrize("new_job", ["pubsub"], indirect=True)
def test_a_pause_reaches_workers_although_not_all_cancelled_tasks_fit(new_job):
    job, said = new_job(), []
    job.insert(10_000)
    cancelling.cancel(job.database, Selection(ids=[f"t{n}" for n in range(0, 10_000, 2)]))
    control.set_paused(job.database, True)
    with JobQueues(job.configuration, say=said.append) as queues:
        queues.publish(job.database)
        control.set_paused(job.database, False)
        queues.publish(job.database)
        control.set_paused(job.database, True)
        queues.publish(job.database)
    one = open_channel(job.configuration)
    found = documents.unpack(one.read())
    one.close()
    assert found.is_paused
    assert 200 < len(found.cancelled) < 5000
    assert said == [
        f"The queue service has no room for the numbers of {5000 - len(found.cancelled):,} more cancelled tasks: those that run, or are in "
        "messages, may still be done. Set BUCKET, also for workers, to cancel so many."
    ]


@pytest.mark.parametrize("new_job", ["sqs", "pubsub", "postgresql"], indirect=True)
def test_a_pause_of_an_earlier_ledger_of_the_job_ends_with_the_first_look(new_job, tmp_path):
    job = new_job()

    def publish(database):
        with JobQueues(job.configuration) as queues:
            queues.publish(database)
        one = open_channel(job.configuration)
        text = one.read()
        one.close()
        return None if text is None else documents.unpack(text)

    assert publish(job.database) is None  # nothing is written for a job that nobody steers
    control.set_paused(job.database, True)
    earlier = publish(job.database)
    assert earlier.is_paused
    again = create(tmp_path / "again.db", job_id=job.name, project=tmp_path, now=1.0)
    found = publish(again)
    assert (found.ledger, found.version, found.is_paused) == (recording.token(again), 0, False)
    assert publish(again) == found
    assert publish(job.database) == earlier
    again.close()


@pytest.mark.parametrize("new_job", ["sqs", "pubsub", "postgresql"], indirect=True)
def test_a_worker_of_a_paused_job_leases_nothing_however_soon_it_asks(new_job):
    job = new_job()
    job.insert(4)
    control.set_paused(job.database, True)
    with JobQueues(job.configuration) as queues:
        queues.publish(job.database)
    worker = job.worker()
    deadline = time.monotonic() + PATIENCE_SECONDS
    for _ in range(40):  # the tasks would arrive within some of these
        while not worker.orders().is_paused:
            assert worker.lease(2, time.time()) == []
            assert time.monotonic() < deadline
        assert worker.lease(2, time.time()) == []
        time.sleep(0.05)


def test_a_document_says_which_tasks_are_cancelled():
    runs = documents.as_runs([1, 2, 3, 7, 9, 10])
    assert runs == [(1, 3), (7, 7), (9, 10)]
    one = ControlDocument(job_id="job", ledger="1.5", version=3, is_paused=True, cancelled=runs, chain_epoch=2)
    assert documents.unpack(documents.pack(one)) == one
    assert [seq for seq in range(12) if one.has_cancelled("1.5", seq)] == [1, 2, 3, 7, 9, 10]
    assert not one.has_cancelled("1.6", 1)
    assert [one.has_ended("1.5", epoch) for epoch in (0, 1, 2, 3)] == [True, True, False, False]
    assert not one.has_ended("1.6", 1)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"taskfleet":1}', '{"taskfleet":1,"job":"j","ledger":"","version":1,"paused":1,"cancelled":[]}',
     '{"taskfleet":1,"job":"j","ledger":"","version":1,"paused":true,"cancelled":[[1]]}',
     '{"taskfleet":1,"job":"j","ledger":"","version":1,"paused":true,"cancelled":[],"chain_epoch":"9"}'],
)  # fmt: skip
def test_other_texts_are_no_documents(text):
    with pytest.raises(ForeignMessageError):
        documents.unpack(text)


def test_a_document_of_a_later_version_is_known_as_such():
    with pytest.raises(NewerFormatError):
        documents.unpack('{"taskfleet":9999}')
