"""A process per task: tasks that do nothing, against bare fork-and-wait from two processes with the same modules loaded.

    uv run --group benchmarks python benchmarks/fork.py [--tasks 10_000] [--rounds 3]

Forking costs by the memory that is mapped, so it is measured in three settings: the task module imports nothing, numpy, pandas. The bare
side imports what the warm process does, and the task module, freezes the garbage collector as that does, and then two processes fork a
child that leaves at once, wait for it, and so on.
"""

import argparse
import statistics

import measure
import ours

SETTINGS = {"our modules only": "", "plus numpy": "import numpy\n", "plus pandas": "import pandas\n"}
TASK = "def run_task(number):\n    return number\n"
SHARE = 0.80
RMS_PER_SECOND = 4
TIMES_RMS = 400

BARE = """\
import gc, os, sys, time
sys.path.insert(0, ".")
import taskfleet.worker.warm
import task
gc.collect()
gc.freeze()

def loop(n):
    for _ in range(n):
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)

each = int(sys.argv[1]) // 2
start = time.perf_counter()
pids = []
for _ in range(2):
    pid = os.fork()
    if not pid:
        loop(each)
        os._exit(0)
    pids.append(pid)
for pid in pids:
    os.waitpid(pid, 0)
print(2 * each / (time.perf_counter() - start))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    claims = measure.Claims("A process per task")
    for setting, imports in SETTINGS.items():
        bare, rates = [], []
        for _ in range(arguments.rounds):
            with measure.temporary_folder() as folder:
                project = ours.make_project(folder / "project", task=imports + TASK, function="task:run_task")
                bare.append(float(measure.run(measure.python(BARE, arguments.tasks), project).out))
                ours.insert(project, arguments.tasks)
                rates.append(arguments.tasks / ours.drain(project, arguments.tasks, tasks_per_process=1))
        shares = [rate / floor for rate, floor in zip(rates, bare, strict=True)]
        rate, floor, share = map(statistics.median, (rates, bare, shares))
        what = f"{setting}: {rate:,.0f} tasks/s of {floor:,.0f} bare forks/s ({min(shares):.0%} to {max(shares):.0%})"
        claims.add(what, f"{share:.0%}", f"≥ {SHARE:.0%}", share >= SHARE)
        if not imports:
            what = f"{setting}: beside rms-cloud-tasks at {RMS_PER_SECOND}/s (compare.py measures both)"
            claims.at_least(what, rate / RMS_PER_SECOND, TIMES_RMS, "times")
    claims.show()


if __name__ == "__main__":
    main()
