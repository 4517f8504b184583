"""A dead worker: how long until another one has its tasks, with default settings, when nothing but the lease can tell.

    uv run --group benchmarks python benchmarks/takeover.py [--after 0.1 4 9]

Each case is a ledger of its own with a worker that holds two tasks and lives in another pid namespace, so that the second worker cannot
see whether it lives. It is killed with -9, with everything in its namespace, so many seconds after its first lease; counted is from there
until both tasks are leased again. Where no namespace is to be had the first worker is stopped (SIGSTOP) instead: it looks alive, and only
its lease runs out. The cases run at the same time; they do nothing but wait. Also shown: a worker killed where the other can see it.
"""

import argparse
import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import measure
import ours

WITHIN_SECONDS = 35.0

TASK = """\
import os
import time


def run_task(number):
    if os.environ.get("BENCH_HOLD"):
        time.sleep(10_000)
    return number
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--after", type=float, nargs="+", default=[0.1, 4.0, 9.0], metavar="SECONDS")
    arguments = parser.parse_args()
    namespace = namespace_command()
    how = "killed in another pid namespace" if namespace else "stopped, as no pid namespace is to be had"
    claims = measure.Claims("A dead worker's tasks leased again, default settings")
    cases = [(f"{after:g} s after its first lease, {how}", namespace, after) for after in arguments.after]
    cases.append(("killed where the other worker can see it", None, 1.0))
    taken = {}
    with measure.temporary_folder() as folder:
        projects = [ours.make_project(folder / str(n), task=TASK, function="task:run_task") for n in range(len(cases))]
        for project in projects:
            ours.insert(project, 2)

        def measure_case(index):
            _, namespace, after = cases[index]
            seen = index == len(cases) - 1
            taken[index] = seconds_to_takeover(projects[index], namespace, after, kill=seen or namespace is not None)

        threads = [threading.Thread(target=measure_case, args=(index,)) for index in range(len(cases))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for index, (what, *_) in enumerate(cases):
        if index not in taken:
            claims.add(what, "failed, see above", f"≤ {WITHIN_SECONDS:g} s", False)
        elif index < len(cases) - 1:
            claims.at_most(what, taken[index], WITHIN_SECONDS, "s")
        else:
            claims.add(what, f"{measure.number(taken[index])} s")
    claims.show()


def namespace_command():
    """Give the command that runs another one in a pid namespace of its own, None if that cannot be had here."""
    if not shutil.which("unshare"):
        return None
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *as_root, "--pid", "--fork", "--kill-child", "--mount-proc"]
    done = subprocess.run([*command, "true"], capture_output=True)
    return command if done.returncode == 0 else None


def seconds_to_takeover(project, namespace, after, *, kill):
    with ExitStack() as stack:
        connection = stack.enter_context(ours.ledger(project))
        held = [*(namespace or []), *ours.worker_command(tasks_per_process=1)]
        first = stack.enter_context(measure.started(held, project, log=project / "first.log", BENCH_HOLD="1"))
        measure.wait_until(lambda: leased(connection, 1) == 2, within=60)
        second = stack.enter_context(
            measure.started(ours.worker_command(tasks_per_process=1), project, log=project / "second.log")
        )
        time.sleep(after)
        if kill:
            os.kill(child_of(first.pid) if namespace else first.pid, signal.SIGKILL)
        else:
            os.kill(first.pid, signal.SIGSTOP)
        start = time.monotonic()
        measure.wait_until(lambda: leased(connection, 2) == 2, within=120)
        seconds = time.monotonic() - start
        if not kill:
            os.kill(first.pid, signal.SIGCONT)
            measure.end(first)
        measure.wait_until(lambda: second.poll() is not None, within=120)
    return seconds


def leased(connection, attempt):
    """Count the tasks that have had so many leases."""
    return connection.execute("SELECT count(*) FROM state WHERE attempt >= ?", (attempt,)).fetchone()[0]


def child_of(pid):
    """Give the only child of a process: under ``unshare --fork``, the first process of the namespace."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


if __name__ == "__main__":
    main()
