"""Ten million tasks: what status costs, and whether worker and ledger are as fast as with ten thousand.

    uv run --group benchmarks python benchmarks/large.py [--rows 10_000_000]

Needs some 2 GB in the temporary folder. Status is the whole command minus an interpreter that does nothing. The worker's
speed is that of the next tasks of the large ledger against ledgers that hold no more than those.
"""

import argparse
import statistics

import measure
import ours

SMALL = 10_000
MANY = 200_000
STATUS_MS = 100
AS_FAST = 0.9


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rows, rounds = arguments.rows, arguments.rounds
    claims = measure.Claims(f"{rows:,} tasks")
    with measure.temporary_folder() as folder:
        project = ours.make_project(folder / "large")
        inserted = ours.insert(project, rows)
        claims.add(
            "inserted",
            f"{rows / inserted.seconds:,.0f} rows/s, peak {inserted.peak_rss_mib * measure.MIB / 1e6:,.0f} MB",
        )
        small = ours.make_project(folder / "small")
        ours.insert(small, SMALL)
        for what, where in ((f"{rows:,}", project), (f"{SMALL:,}", small)):
            beyond = status_ms(where, rounds)
            claims.at_most(f"status of {what} queued tasks, beyond interpreter start", beyond, STATUS_MS, "ms")
        for n, repeat in ((SMALL, rounds), (min(MANY, rows // 4), 2)):
            compare_drain(claims, folder, project, n, repeat)
        claims.at_most("status with a part of them done", status_ms(project, rounds), STATUS_MS, "ms")
        claims.add("the ledger", f"{ours.ledger_mib(project):,.0f} MiB")
    claims.show()


def status_ms(project, rounds):
    """Give the median of what status takes beyond an interpreter."""
    whole, bare = [], []
    for _ in range(rounds):
        bare.append(measure.run(measure.python("pass"), project).seconds)
        whole.append(measure.run(ours.command("status"), project).seconds)
    return 1000 * (statistics.median(whole) - statistics.median(bare))


def compare_drain(claims, folder, project, n, rounds):
    in_large, in_small = [], []
    for number in range(rounds):
        fresh = ours.make_project(folder / f"fresh-{n}-{number}")
        ours.insert(fresh, n)
        in_small.append(n / ours.drain(fresh, n))
        in_large.append(n / ours.drain(project, n, "--max-tasks", n))
    large, small = statistics.median(in_large), statistics.median(in_small)
    what = f"worker, {n:,} tasks: {large:,.0f}/s of {small:,.0f}/s in a ledger of {n:,}"
    claims.add(what, f"{large / small:.0%}", f"≥ {AS_FAST:.0%}", large / small >= AS_FAST)


if __name__ == "__main__":
    main()
