"""Memory of the supervisor: its peak with ten thousand and with a million queued tasks, and with results of a megabyte.

uv run --group benchmarks python benchmarks/memory.py [--rows 1_000_000]
"""

import argparse

import measure
import ours

PEAK_MB = 80
LARGE_RESULTS = 200


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="the long queue")
    arguments = parser.parse_args()
    claims = measure.Claims("Memory of a supervisor, from its start to its end")
    with measure.temporary_folder() as folder:
        for n in (10_000, arguments.rows):
            for tasks_per_process in (0, 1):
                most = n if tasks_per_process == 0 else min(n, 10_000)
                peak = peak_mb(folder, n, most, "noop", tasks_per_process)
                kind = "process kept" if tasks_per_process == 0 else "process per task"
                claims.at_most(f"{n:,} queued, {most:,} done, {kind}", peak, PEAK_MB, "MB")
        peak = peak_mb(folder, LARGE_RESULTS, LARGE_RESULTS, "large", 1)
        claims.add(f"{LARGE_RESULTS} results of 1 MB", f"{measure.number(peak)} MB")
    claims.show()


def peak_mb(folder, n, most, kind, tasks_per_process):
    project = ours.make_project(folder / f"{kind}-{n}-{tasks_per_process}", function=f"task:{kind}")
    ours.insert(project, n)
    peak = 0.0

    def has_ended():
        nonlocal peak
        if worker.poll() is not None:
            return True
        try:
            peak = max(peak, measure.peak_rss_mib(worker.pid))
        except (RuntimeError, OSError):  # it is just ending
            return False
        return False

    command = ours.worker_command("--max-tasks", most, tasks_per_process=tasks_per_process)
    with measure.started(command, project, log=project / "worker.log") as worker:
        measure.wait_until(has_ended, every=0.02)
    with ours.ledger(project) as connection:
        done = ours.succeeded(connection)
    if done != most:
        raise RuntimeError(f"{done:,} of {most:,} tasks succeeded:\n{(project / 'worker.log').read_text()[-2000:]}")
    return peak * measure.MIB / 1e6


if __name__ == "__main__":
    main()
