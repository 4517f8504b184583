"""One slot, spoken to as the supervisor does."""

import json
import os
import select
import signal
import socket
import time
from pathlib import Path

import pytest
from taskfleet.functions import examine
from taskfleet.tasks import Lease, Outcome
from taskfleet.worker import limits, runner_process
from taskfleet.worker.config import WorkerConfig
from taskfleet.worker.messages import CANCELLED, Cancel, Done, KillTask, Recall, Returned, Run, pack, unpack
from taskfleet.worker.runner_process import RunnerProcess
from taskfleet.worker.slot import Slot
from taskfleet.worker.wire import Channel


def run_task(n, gate=None, text="", hoard_mib=0):
    if gate is not None:
        open(f"{gate}-began", "w").close()
    while gate is not None and not os.path.exists(gate):
        time.sleep(0.005)
    if hoard_mib:
        hoard = bytearray(b"x") * (hoard_mib << 20)
        open(f"{gate}-hoarded", "w").close()
        time.sleep(1000)
        del hoard
    return n


class Talk:
    """A slot in a process of its own and our end of its channel."""

    def __init__(self, tasks_per_process, max_runtime_seconds=None, memory_limit_bytes=None, cancel_grace_seconds=0.0):
        ours, theirs = socket.socketpair()
        config = WorkerConfig(
            function="task:run_task",
            project="/",
            job_id="job",
            hostname="here",
            output_path=None,
            args=(),
            slots=1,
            tasks_per_process=tasks_per_process,
            max_runtime_seconds=max_runtime_seconds,
            memory_limit_bytes=memory_limit_bytes,
            cancel_grace_seconds=cancel_grace_seconds,
            max_result_bytes=1 << 20,
            output_tail_bytes=1000,
        )
        self.pid = os.fork()
        if self.pid == 0:
            try:
                ours.close()
                Slot(Channel(theirs), examine(run_task), config).serve()
            finally:
                os._exit(0)
        theirs.close()
        self.channel = Channel(ours)
        self.done = {}
        self.returned = []

    def run(self, *tasks):
        """Hand over tasks: pairs of a number and arguments."""
        leases = [
            Lease(seq=n, attempt=1, task_id=f"t{n}", data=json.dumps({"n": n, **arguments})) for n, arguments in tasks
        ]
        self.send(Run(leases=leases))

    def send(self, message):
        """Say something to the slot."""
        self.channel.send(pack(message))

    def until(self, condition, seconds=60):
        """Listen until something holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"done {self.done.keys()}, returned {self.returned}"
            if select.select([self.channel], [], [], 0.02)[0]:
                for message in map(unpack, self.channel.receive()):
                    match message:
                        case Done(finished=finished):
                            self.done |= {one.seq: one for one in finished}
                        case Returned(keys=keys):
                            self.returned.append(keys)
            if self.channel.wants_write:
                self.channel.flush()

    def until_idle(self):
        """Wait until the slot has taken in what was sent: its own process has used no time for a while."""
        used, since = None, 0.0
        self.until(lambda: not self.channel.wants_write)
        while (now := time.monotonic()) - since < 0.2 or used is None:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
            if fields[11:13] != used or fields[0] != "S":
                used, since = fields[11:13], now
            time.sleep(0.01)


@pytest.fixture
def slot(request):
    talks = []

    def make(*arguments, **options):
        talks.append(Talk(*arguments, **options))
        return talks[-1]

    yield make
    for talk in talks:
        talk.channel.close()
        deadline = time.monotonic() + 60
        while not os.waitpid(talk.pid, os.WNOHANG)[0]:  # it sees that we are gone, and ends
            if time.monotonic() > deadline:
                os.kill(talk.pid, signal.SIGKILL)
                os.waitpid(talk.pid, 0)
                pytest.fail("the slot did not end")
            time.sleep(0.01)


@pytest.mark.parametrize("tasks_per_process", [1, 0, 3, 50])
def test_tasks_can_be_recalled_while_they_are_sent_to_a_busy_process(slot, tmp_path, tasks_per_process):
    """Large tasks fill the channel to a process that is busy; taken back, they must not keep it from its end."""
    gate = tmp_path / "gate"
    talk = slot(tasks_per_process)
    talk.run((1, {"gate": str(gate)}))
    talk.until((tmp_path / "gate-began").exists)
    talk.run((2, {"text": "x" * 5_000_000}), (3, {"text": "x" * 5_000_000}))
    talk.until_idle()
    talk.send(Recall())
    talk.until(lambda: talk.returned)
    assert talk.returned == [[(2, 1), (3, 1)]]
    gate.touch()
    talk.until(lambda: talk.done)
    talk.run((4, {}), (5, {}))
    talk.until(lambda: len(talk.done) == 3)
    assert {n: (one.outcome, one.result) for n, one in talk.done.items()} == {
        n: (Outcome.SUCCEEDED, str(n)) for n in (1, 4, 5)
    }


@pytest.mark.parametrize("tasks_per_process", [1, 0, 2, 3])
def test_tasks_taken_back_at_any_moment_are_either_done_or_returned(slot, tasks_per_process):
    talk = slot(tasks_per_process)
    given = 0
    for turn in range(400):
        talk.run(*((given + n, {}) for n in range(7)))
        given += 7
        if turn % 3 == 0:
            talk.until(lambda given=given: len(talk.done) >= given // 2 or len(talk.returned) > 2)
        talk.send(Recall())
        talk.until(lambda turn=turn: len(talk.returned) == turn + 1)
    returned = [seq for keys in talk.returned for seq, _ in keys]
    talk.until(lambda: len(talk.done) + len(returned) == given)
    assert sorted([*talk.done, *returned]) == list(range(given))
    assert all(one.result == str(n) for n, one in talk.done.items())
    assert returned


@pytest.mark.parametrize("tasks_per_process", [1, 0, 3])
def test_a_killed_task_is_interrupted_and_those_queued_behind_it_are_returned(slot, tmp_path, tasks_per_process):
    talk = slot(tasks_per_process)
    talk.run((1, {"gate": str(tmp_path / "never")}), (2, {}), (3, {}))
    talk.send(KillTask())
    talk.until(lambda: talk.returned)
    assert talk.returned in ([[(2, 1), (3, 1)]], [[(1, 1), (2, 1), (3, 1)]])
    if talk.done:
        assert talk.done[1].outcome == Outcome.INTERRUPTED
    talk.run((4, {}))
    talk.until(lambda: 4 in talk.done)


@pytest.mark.parametrize("tasks_per_process", [1, 0, 3])
def test_cancelled_tasks_are_killed_and_the_others_go_on(slot, tmp_path, tasks_per_process):
    talk = slot(tasks_per_process)
    talk.run((1, {"gate": str(tmp_path / "never")}), *((n, {}) for n in range(2, 8)))
    talk.until((tmp_path / "never-began").exists)
    talk.send(Cancel(keys=[(3, 1), (5, 1), (99, 1)]))
    talk.until(lambda: len(talk.done) == 2)
    assert {n: one.outcome for n, one in talk.done.items()} == {3: Outcome.KILLED, 5: Outcome.KILLED}
    talk.send(Cancel(keys=[(1, 1), (3, 1), (4, 2)]))
    talk.until(lambda: len(talk.done) == 7)
    assert [n for n, one in talk.done.items() if one.outcome == Outcome.KILLED] == [3, 5, 1]
    assert talk.done[1].error == CANCELLED
    assert talk.done[1].exit_code is None
    assert all(talk.done[n].result == str(n) for n in (2, 4, 6, 7))


@pytest.mark.parametrize("tasks_per_process", [1, 0, 2, 3])
def test_a_task_cancelled_at_any_moment_is_killed_or_done_and_no_other_is_touched(slot, tasks_per_process):
    """The moment moves through the turns: before the start, while the tasks run, at their end, after it."""
    talk = slot(tasks_per_process)
    cancelled = set()
    for turn in range(168):
        numbers = range(7 * turn, 7 * turn + 7)
        talk.run(*((n, {}) for n in numbers))
        if turn % 3 == 0:
            talk.until(lambda turn=turn, wanted=7 * turn + turn % 7: len(talk.done) >= wanted)
        chosen = {numbers[turn % 7], numbers[(turn * 5 + 1) % 7]}
        cancelled |= chosen
        talk.send(Cancel(keys=[(n, 1) for n in chosen]))
        if turn % 4:
            talk.until(lambda turn=turn: len(talk.done) == 7 * turn + 7)
    talk.until(lambda: len(talk.done) == 7 * 168)
    assert {n for n, one in talk.done.items() if one.outcome != Outcome.SUCCEEDED} <= cancelled
    found = {one.outcome for n, one in talk.done.items() if n in cancelled}
    assert found <= {Outcome.SUCCEEDED, Outcome.KILLED}
    assert Outcome.KILLED in found
    assert all(one.result == str(n) for n, one in talk.done.items() if one.outcome == Outcome.SUCCEEDED)


@pytest.mark.parametrize("tasks_per_process", [1, 0, 3])
def test_a_cancelled_task_has_its_time_and_the_others_wait_for_it(slot, tmp_path, tasks_per_process):
    gate = tmp_path / "gate"
    talk = slot(tasks_per_process, cancel_grace_seconds=600.0)
    talk.run((1, {"gate": str(gate)}), (2, {}), (3, {}))
    talk.until((tmp_path / "gate-began").exists)
    talk.send(Cancel(keys=[(1, 1), (2, 1)]))
    talk.until(lambda: 2 in talk.done)
    talk.until_idle()
    assert set(talk.done) == {2}
    gate.touch()
    talk.until(lambda: len(talk.done) == 3)
    assert [talk.done[n].outcome for n in (1, 2, 3)] == [Outcome.SUCCEEDED, Outcome.KILLED, Outcome.SUCCEEDED]


@pytest.mark.parametrize("tasks_per_process", [1, 0, 3])
def test_a_cancelled_task_is_killed_when_its_time_is_over(slot, tmp_path, tasks_per_process):
    talk = slot(tasks_per_process, cancel_grace_seconds=0.3)
    talk.run((1, {"gate": str(tmp_path / "never")}), (2, {}))
    talk.until((tmp_path / "never-began").exists)
    talk.send(Cancel(keys=[(1, 1)]))
    talk.until(lambda: len(talk.done) == 2)
    assert talk.done[1].outcome == Outcome.KILLED
    assert talk.done[1].elapsed_seconds > 0.3
    assert talk.done[2].outcome == Outcome.SUCCEEDED


def kill_late(runner, outcome, reason, target=None):
    """Let the task that is about to be killed come to its end, and the next one begin."""
    deadline = time.monotonic() + 20
    while runner.current_task()[0] == target and time.monotonic() < deadline:
        time.sleep(0.001)
    kill(runner, outcome, reason, target)


kill = RunnerProcess.kill


@pytest.mark.parametrize("tasks_per_process", [1, 0, 3])
def test_a_task_that_ends_at_its_limit_does_not_have_the_next_one_blamed(
    slot, tmp_path, monkeypatch, tasks_per_process
):
    monkeypatch.setattr(RunnerProcess, "kill", kill_late)
    gate, second = tmp_path / "gate", tmp_path / "second"
    talk = slot(tasks_per_process, max_runtime_seconds=2.0)
    talk.run((1, {"gate": str(gate)}), (2, {"gate": str(second)}))
    talk.until((tmp_path / "gate-began").exists)
    time.sleep(2.2)
    gate.touch()
    talk.until(lambda: 1 in talk.done)
    second.touch()
    talk.until(lambda: 2 in talk.done)
    assert [talk.done[n].outcome for n in (1, 2)] == [Outcome.SUCCEEDED, Outcome.SUCCEEDED]


class LeapingClock:
    """Stands in for the module ``time``: it leaps by an hour when a file appears."""

    def __init__(self, mark):
        self._mark = mark

    def monotonic(self):
        return time.monotonic() + 3600 * self._mark.exists()


@pytest.mark.parametrize("tasks_per_process", [1, 0, 3])
@pytest.mark.parametrize(("hoard_mib", "outcome"), [(600, Outcome.MEMORY), (1, Outcome.TIMEOUT)])
def test_a_task_that_exceeds_both_limits_fails_for_its_memory(
    slot, tmp_path, monkeypatch, tasks_per_process, hoard_mib, outcome
):
    """Memory would be measured again in a day; half an hour is the limit, over when the task holds all it wants."""
    gate, measured = tmp_path / "gate", tmp_path / "measured"
    measure = runner_process.memory_bytes

    def measure_and_note(*arguments, **options):
        used = measure(*arguments, **options)
        measured.touch()
        return used

    monkeypatch.setattr(runner_process, "memory_bytes", measure_and_note)
    monkeypatch.setattr(limits, "MEMORY_CHECK_SECONDS", 86_400.0)
    monkeypatch.setattr(limits, "LONGEST_MEMORY_CHECK_SECONDS", 86_400.0)
    monkeypatch.setattr(limits, "time", LeapingClock(tmp_path / "gate-hoarded"))
    talk = slot(tasks_per_process, max_runtime_seconds=1800.0, memory_limit_bytes=500 << 20)
    talk.run((1, {"gate": str(gate), "hoard_mib": hoard_mib}))
    talk.until(measured.exists)
    gate.touch()
    talk.until(lambda: 1 in talk.done)
    assert talk.done[1].outcome == outcome, talk.done[1].error
