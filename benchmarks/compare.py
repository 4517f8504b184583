"""Run the local engine and what one would use instead, one after the other, on the same tasks.

    uv run poe bench
    uv run poe bench --quick
    uv run poe bench --only huey_sqlite celery_redis --kinds noop

Every run of a side is a process of its own in a temporary folder. The sides take turns: each does its run once before any does it again,
so that what disturbs the machine for a while disturbs all of them. Two workers each. Shown is the median of the rounds, with the lowest
and the highest, and how many times as fast ours is.
"""

import argparse
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

import measure
import sides

OURS = ("taskfleet_kept", "taskfleet_fresh")
TITLES = {
    "noop": "Tasks that do nothing",
    "work": "Tasks of 10 ms of work (200 tasks/s is all that two workers can do)",
    "large": "Tasks with a result of 1 MB",
}
#: A quick run does so much less, but at least this many tasks.
QUICK = 20
FEWEST = 4
WITHIN_SECONDS = 300.0


def main():
    arguments = parse()
    names = [name for name in sides.ALL if name in (*OURS, *arguments.only)] if arguments.only else list(sides.ALL)
    skipped = {name: reason for name in names if (reason := sides.load(name).missing())}
    for name, reason in skipped.items():
        measure.say(f"skipped: {name}: {reason}")
    names = [name for name in names if name not in skipped]
    tables = []
    for kind in arguments.kinds:
        runs = run_rounds(names, kind, arguments)
        tables.append(f"### {TITLES[kind]}\n\n{table(runs, kind)}")
    distributions = [module.DISTRIBUTION for name in names if (module := sides.load(name)).DISTRIBUTION]
    text = "\n\n".join(tables)
    text += f"\n\n`{said()}`, tasks per second, rounds: {arguments.rounds} (median, lowest to highest). {measure.machine(*distributions)}"
    for name, reason in skipped.items():
        text += f"\n\nNot run: {sides.load(name).NAME}: {reason}."
    print(text)
    if arguments.write:
        arguments.write.write_text(f"{text}\n", encoding="utf-8")
        measure.say(f"\nThe tables are in {arguments.write}, to be pasted into benchmarks/README.md.")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few tasks, one round: does everything work?")
    parser.add_argument(
        "--only", nargs="+", choices=sides.ALL, metavar="SIDE", help=f"ours and these: {', '.join(sides.ALL)}"
    )
    parser.add_argument("--kinds", nargs="+", choices=TITLES, default=list(TITLES), help="kinds of task")
    parser.add_argument("--rounds", type=int, help="rounds (3; quick: 1)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables there too, as Markdown")
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 3)
    return arguments


def run_rounds(names, kind, arguments):
    """Give each side's runs: (tasks, seconds of draining, seconds of inserting or None). One that fails is left out from then on."""
    runs = defaultdict(list)
    failed = set()
    for one_round in range(arguments.rounds):
        for name in names:
            if name in failed:
                continue
            n = sides.load(name).SIZES[kind]
            if arguments.quick:
                n = max(FEWEST, n // QUICK)
            try:
                took = run_once(name, kind, n)
            except RuntimeError as error:
                failed.add(name)
                measure.say(f"{name} {kind}: {error}")
                continue
            runs[name].append((n, took["drain_seconds"], took["insert_seconds"]))
            rate = n / took["drain_seconds"]
            measure.say(
                f"round {one_round + 1} {kind:5} {name:16} {n:>9,} tasks {took['drain_seconds']:7.2f} s {rate:>11,.0f}/s"
            )
    return {name: runs.get(name, []) for name in names}


def run_once(name, kind, n):
    ended = measure.run(
        measure.python(measure.BENCHMARKS / "one.py", name, kind, n), measure.BENCHMARKS, within=WITHIN_SECONDS
    )
    return json.loads(ended.out.splitlines()[-1])


def table(runs, kind):
    rates = {name: [n / seconds for n, seconds, _ in taken] for name, taken in runs.items() if taken}
    ours = {name: statistics.median(rates[name]) for name in OURS if name in rates}
    rows = []
    for name, taken in runs.items():
        side = sides.load(name)
        if not taken:
            rows.append((side.NAME, "failed", "", "", "", "", side.KEEPS))
            continue
        middle = statistics.median(rates[name])
        ratios = [f"{measure.number(ours[our] / middle)}" if our in ours and our != name else "" for our in OURS]
        spread = f"{measure.number(min(rates[name]))} to {measure.number(max(rates[name]))}"
        inserts = [n / seconds for n, _, seconds in taken if seconds]
        insert = measure.number(statistics.median(inserts)) if inserts and kind == "noop" else ""
        rows.append((side.NAME, measure.number(middle), spread, *ratios, insert, side.KEEPS))
    head = (
        "side",
        "tasks/s",
        "lowest to highest",
        "ours (kept) is times as fast",
        "ours (per task) is",
        "inserted/s",
        "it keeps",
    )
    if kind != "noop":
        head, rows = head[:5] + head[6:], [row[:5] + row[6:] for row in rows]
    return measure.markdown(head, rows)


def said():
    """Give the command as it was typed, but for the file it wrote to."""
    words = sys.argv[1:]
    if "--write" in words:
        at = words.index("--write")
        del words[at : at + 2]
    return " ".join(["uv run poe bench", *words])


if __name__ == "__main__":
    main()
