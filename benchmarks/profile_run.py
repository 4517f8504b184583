"""Where the time goes: cProfile of the supervisor and of the insertion, and how to look deeper.

    uv run --group benchmarks python benchmarks/profile_run.py [--tasks 200_000] [--tasks-per-process 0] [--lines 20] [--sort tottime]

The slots and the processes under them are not in the profile: they are other processes. cProfile slows small functions down more than
large ones; the plain run beside it says how much. With --cpu processor time is counted, which leaves out waiting, also that for a
processor others are using, and slows small functions down even more. (Not called profile.py: cProfile itself imports that name.)

Deeper, on a run that lasts some seconds, as root or with the kernel's leave:

    py-spy record --native -o worker.svg -- python -m taskfleet launch_worker --slots 2 --tasks-per-process 0
    perf record -g -F 500 -p SUPERVISOR_PID -- sleep 5; perf report --no-children        C functions: SQLite, marshal, the kernel
    perf stat -e page-faults,context-switches -p SLOT_PID -- sleep 5                     what forks cost
    python -X perf -m taskfleet ... under perf record (Python 3.12 and later)            Python functions by name in perf
    strace -c -f -p SUPERVISOR_PID                                                       system calls, counted
"""

import argparse
import pstats
import sys
import time

import measure
import ours

PROFILER = """\
import cProfile, runpy, sys, time
file, timer, _, name = sys.argv[1:5]
sys.argv = sys.argv[4:]
profile = cProfile.Profile(getattr(time, timer))
try:
    profile.runcall(runpy.run_module, name, run_name="__main__", alter_sys=True)
finally:
    profile.dump_stats(file)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=200_000)
    parser.add_argument("--tasks-per-process", type=int, default=0)
    parser.add_argument(
        "--cpu", action="store_true", help="count processor time instead of wall time (slower, without waiting)"
    )
    parser.add_argument("--lines", type=int, default=20)
    parser.add_argument("--sort", default="tottime", choices=("tottime", "cumtime", "ncalls"))
    arguments = parser.parse_args()
    n = arguments.tasks
    with measure.temporary_folder() as folder:
        plain, profiled = ours.make_project(folder / "plain"), ours.make_project(folder / "profiled")
        for project, more in ((plain, []), (profiled, profiler(folder / "insert", arguments))):
            ours.write_table(project / "tasks.feather", ("number",), n)
            inserted = measure.run([sys.executable, *more, *ours.command("insert_tasks")[1:]], project)
            print(
                f"insertion of {n:,} rows, {project.name}: {inserted.seconds:.2f} s, {n / inserted.seconds:,.0f} rows/s"
            )
        show(folder / "insert", arguments)
        for project, more in ((plain, []), (profiled, profiler(folder / "worker", arguments))):
            command = ours.worker_command(tasks_per_process=arguments.tasks_per_process)
            seconds, cpu = supervise([command[0], *more, *command[1:]], project, n)
            print(f"worker, {n:,} tasks, {project.name}: {seconds:.2f} s, {n / seconds:,.0f}/s; {cpu}")
        show(folder / "worker", arguments)


def profiler(file, arguments):
    """Give the arguments that have Python profile what follows."""
    return ["-c", PROFILER, file, "process_time" if arguments.cpu else "perf_counter"]


def supervise(command, project, n):
    """Run a worker; give its seconds from launch to the last result, and whose processor time it was."""
    with ours.ledger(project) as connection, measure.started(command, project, log=project / "worker.log") as worker:
        start = time.perf_counter()
        spent = 0.0

        def is_done():
            nonlocal spent
            spent = cpu_seconds(worker.pid) or spent
            return ours.succeeded(connection) >= n or worker.poll() is not None

        measure.wait_until(is_done, every=0.02)
        seconds = time.perf_counter() - start
        measure.wait_until(lambda: worker.poll() is not None, within=120)
        if worker.returncode or ours.succeeded(connection) != n:
            raise RuntimeError((project / "worker.log").read_text()[-2000:])
    return (
        seconds,
        f"the supervisor used {spent:.2f} s of processor time ({1e6 * spent / n:.1f} µs a task, start-up included)",
    )


def cpu_seconds(pid):
    """Give the processor time a process has used so far, without its children."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100
    except OSError:
        return 0.0


def show(file, arguments):
    statistics = pstats.Stats(str(file), stream=sys.stdout)
    statistics.strip_dirs().sort_stats(arguments.sort).print_stats(arguments.lines)


if __name__ == "__main__":
    main()
