"""``python -m tests.chaos --seed N [--runs K]``: repeat one run, or do many side by side."""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos import clock

clock.install()  # before anything of the engine is imported

from tests.chaos import queues  # noqa: E402
from tests.chaos.harness import can_mount  # noqa: E402
from tests.chaos.run import Run  # noqa: E402
from tests.chaos.scenario import add_graph, draw, draw_moves, draw_remote  # noqa: E402

COMMAND = "uv run python -m tests.chaos --queue {}{} --seed {}"
#: Nothing takes so long; a run that does is ended.
RUN_SECONDS = 400


def main():
    """Do the runs; 0 if nothing is wrong after any of them."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description="Do what is seeded to a job; see what is left of it."
    )
    parser.add_argument(
        "--seed", type=int, help="of the first run; each further one has the next. Drawn anew if not said."
    )
    parser.add_argument("--queue", choices=queues.NAMES, default=queues.LEDGER, help="what the tasks go over (ledger)")
    parser.add_argument("--graphs", action="store_true", help="have a script make a graph beside the table")
    parser.add_argument("--runs", type=int, default=1, help="how many (1)")
    parser.add_argument("--seconds", type=float, help="begin no further run after so long")
    parser.add_argument(
        "--jobs", type=int, default=0, help="how many side by side; four for each CPU if not said: they mostly wait"
    )
    parser.add_argument("--keep-going", action="store_true", help="go on after a failure")
    parser.add_argument("--verbose", action="store_true", help="tell the story of every run")
    arguments = parser.parse_args()
    first = random.SystemRandom().randrange(1_000_000_000) if arguments.seed is None else arguments.seed
    jobs = arguments.jobs or 4 * len(os.sched_getaffinity(0))
    print(f"chaos: {arguments.runs} runs over {arguments.queue} from seed {first} on, {jobs} side by side", flush=True)
    if not can_mount():
        print("chaos: left out: the full disk, which takes root to make", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, queues.running(arguments.queue) as service:
        pool = Pool(Path(folder), arguments, service)
        try:
            return pool.run(range(first, first + arguments.runs), jobs)
        finally:
            pool.end()


class Pool:
    """Runs side by side, each in a process of its own."""

    def __init__(self, folder, arguments, service):
        self.folder = folder
        self.service = service
        self.arguments = arguments
        self.running = {}
        self.failed = []
        self.done = 0

    def run(self, seeds, jobs):
        """Do all of them."""
        began_at = time.monotonic()
        left = list(reversed(seeds))
        while left or self.running:
            stopping = bool(self.failed) and not self.arguments.keep_going
            late = self.arguments.seconds is not None and time.monotonic() - began_at > self.arguments.seconds
            if stopping or late:
                left.clear()
            while left and len(self.running) < jobs:
                self._begin(left.pop())
            if self.running:
                self._await()
        seconds = time.monotonic() - began_at
        print(f"chaos: {self.done} runs in {seconds:.1f} s, {len(self.failed)} failed {sorted(self.failed) or ''}")
        return 1 if self.failed else 0

    def _begin(self, seed):
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                os.setsid()
                signal.signal(signal.SIGINT, signal.default_int_handler)
                signal.alarm(RUN_SECONDS)
                code = one_run(seed, self.folder / str(seed), self.arguments, self.service)
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        self.running[pid] = seed

    def _await(self):
        pid, status = os.wait()
        seed = self.running.pop(pid)
        self.done += 1
        if status:
            self.failed.append(seed)
            graphs = " --graphs" if self.arguments.graphs else ""
            command = COMMAND.format(self.arguments.queue, graphs, seed)
            print(f"chaos: seed {seed} failed ({os.waitstatus_to_exitcode(status)}). Repeat it: {command}", flush=True)

    def end(self):
        """End what still runs, when this is interrupted."""
        for pid in self.running:
            os.kill(pid, signal.SIGINT)  # each ends its own
        for pid in self.running:
            os.waitpid(pid, 0)


def one_run(seed, folder, arguments, service):
    """Do one run; 0 if nothing is wrong."""
    queue = arguments.queue
    if queue == queues.MOVES:
        scenario = draw_moves(seed, queues.PLACES)
        service = queues.Place(service, scenario.place)
    else:
        scenario = draw(seed) if service is None else draw_remote(seed, queue)
    if arguments.graphs:
        scenario = add_graph(scenario)
    run = Run(scenario, folder, service)
    try:
        wrong = run.play()
        if wrong or arguments.verbose:
            listed = "\n".join(f"  * {one}" for one in wrong)
            print(f"\n===== seed {seed}\n{run.story()}\n\nwrong:\n{listed}\n", flush=True)
        return 1 if wrong else 0
    finally:
        run.job.clear_up()


if __name__ == "__main__":
    sys.exit(main())
