"""What goes wrong: each fault does its harm to a job and says when and how it is undone."""

import os
import signal
import sqlite3
import time
from contextlib import suppress
from functools import singledispatch

from tests.chaos import clock, queues
from tests.chaos.scenario import Busy, FullDisk, Jump, Kill, Outage, Pause, Signal


@singledispatch
def begin(fault, job):
    """Do the harm; return after how many seconds to undo it and what undoes it, or None."""
    raise TypeError(fault)


@begin.register
def _(fault: Kill, job):
    pids, what = job.targets(fault.target, fault.pick)
    job.note(f"kill -9 {what}: {pids}")
    job.mark_hit(pids)
    if fault.pick < 0.5:  # from the leaves, or from the root
        pids.reverse()
    for pid in pids:
        _send(pid, signal.SIGKILL)


@begin.register
def _(fault: Pause, job):
    pids, what = job.targets(fault.target, fault.pick)
    job.note(f"stop {what} for {fault.seconds} s: {pids}")
    for pid in pids:
        _send(pid, signal.SIGSTOP)

    def undo():
        job.note(f"continue {what}: {pids}")
        for pid in pids:
            _send(pid, signal.SIGCONT)

    return fault.seconds, undo


@begin.register
def _(fault: Signal, job):
    pids, what = job.targets("supervisor", fault.pick)
    job.note(f"{fault.name} {fault.times} times to {what}: {pids}")
    for _ in range(fault.times):
        for pid in pids:
            _send(pid, getattr(signal, fault.name))
        time.sleep(0.01)  # two of a kind at once are one


@begin.register
def _(fault: Busy, job):
    def hold():
        deadline = time.monotonic() + fault.seconds
        connection = sqlite3.connect(f"{job.ledger_path.as_uri()}?mode=rw", uri=True, timeout=5, isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(max(0.0, deadline - time.monotonic()))
        if fault.is_killed:
            os.kill(os.getpid(), signal.SIGKILL)
        connection.rollback()
        connection.close()

    def try_to_hold():
        with suppress(sqlite3.Error):  # there is none yet, or it is busy already
            hold()

    job.note(f"the ledger is busy for {fault.seconds} s")
    pid = job.fork(try_to_hold)
    return fault.seconds + 0.1, lambda: _send(pid, signal.SIGKILL)


@begin.register
def _(fault: FullDisk, job):
    if not job.has_own_disk:
        job.note("left out: a full disk")
        return None
    ballast = job.project / "ballast"
    fd = os.open(ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    block = bytes(1 << 20)
    while block:
        try:
            os.write(fd, block)
        except OSError:
            block = block[: len(block) // 2]
    os.close(fd)
    job.note(f"the disk is full for {fault.seconds} s")

    def undo():
        job.note("the disk has room")
        ballast.unlink(missing_ok=True)

    return fault.seconds, undo


@begin.register
def _(fault: Jump, job):
    job.note(f"the clock is off by {fault.offset_seconds:+g} s")
    clock.jump_to(fault.offset_seconds)


@begin.register
def _(fault: Outage, job):
    service = job.service.service if isinstance(job.service, queues.Place) else job.service
    if service is None:
        job.note("left out: an outage of the ledger")
        return None
    job.note(f"the queue does not answer for {fault.seconds} s")
    if queues.is_postgresql(service) and fault.pick % 2:  # in a child: the server may be stopped by another run
        pid = job.fork(lambda: queues.break_connections(service, fault.pick))
        return fault.seconds, lambda: _send(pid, signal.SIGKILL)
    service.pause()
    return fault.seconds, service.resume


def _send(pid, number):
    with suppress(ProcessLookupError):
        os.kill(pid, number)
