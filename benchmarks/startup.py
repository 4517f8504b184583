"""Start-up: ``poe status`` whole, ``import taskfleet``, the first task of a worker.

    uv run --group benchmarks python benchmarks/startup.py [--rounds 9] [--no-bake]

``poe status`` is measured in a baked project, with that project's own environment (``uv sync`` makes it in a temporary folder).
"""

import argparse
import os
import shutil
import statistics
import sys
import time
from pathlib import Path

import measure
import ours

STATUS_SECONDS = 0.5
IMPORT_MS = 60
FIRST_TASK_SECONDS = 1.0


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-bake", action="store_true", help="leave poe itself out")
    arguments = parser.parse_args()
    rounds = arguments.rounds
    claims = measure.Claims("Start-up")
    with measure.temporary_folder() as folder:
        project = ours.make_project(folder / "project")
        ours.insert(project, 100)
        bare, imported, status = [], [], []
        for _ in range(rounds):
            bare.append(measure.run(measure.python("pass"), project).seconds)
            imported.append(measure.run(measure.python("import taskfleet"), project).seconds)
            status.append(measure.run(ours.command("status"), project).seconds)
        claims.add("an interpreter that does nothing", measure.best(bare))
        only = 1000 * (statistics.median(imported) - statistics.median(bare))
        claims.at_most("import taskfleet, beyond that", only, IMPORT_MS, "ms")
        claims.add("python -m taskfleet status", measure.best(status))
        if arguments.no_bake:
            claims.add("poe status", "left out (--no-bake)")
        else:
            poe_status(claims, folder, rounds)
        first, tail = first_tasks(folder, max(3, rounds // 2))
        claims.at_most("worker's first task done after launch", statistics.median(first), FIRST_TASK_SECONDS, "s")
        claims.add("from the last result to the end of the worker's process", measure.best(tail))
    claims.show()


def poe_status(claims, folder, rounds):
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        claims.add("poe status", "not measured: uv is not on the path")
        return
    config = folder / "cookiecutter.yaml"
    config.write_text(f"replay_dir: {folder}/replay\ncookiecutters_dir: {folder}/clones\n")
    template = Path(__file__).resolve().parents[1]
    flags = ["--no-input", "--config-file", config, "-o", folder, template, "project_name=Baked"]
    measure.run([sys.executable, "-m", "cookiecutter", *flags], folder)
    project = folder / "baked"
    own = {
        "PYTHONPATH": "",
        "VIRTUAL_ENV": "",
        "UV_PROJECT_ENVIRONMENT": str(project / ".venv"),
        "UV_RUN_RECURSION_DEPTH": "0",
    }
    measure.run([uv, "sync", "-q"], project, **own)
    own["PATH"] = f"{project / '.venv' / 'bin'}{os.pathsep}{Path(uv).parent}{os.pathsep}{os.environ['PATH']}"
    poe = project / ".venv" / "bin" / "poe"
    measure.run([poe, "insert_tasks"], project, **own)
    by_poe = [measure.run([poe, "status"], project, **own).seconds for _ in range(rounds)]
    by_uv = [measure.run([uv, "run", "poe", "status"], project, **own).seconds for _ in range(rounds)]
    claims.at_most("poe status, whole", statistics.median(by_poe), STATUS_SECONDS, "s")
    claims.add("uv run poe status, whole", measure.best(by_uv))


def first_tasks(folder, rounds):
    """Give, for some workers, the seconds from launch to the end of the first task, and from the last result to the end."""
    first, tail = [], []
    for number in range(rounds):
        project = ours.make_project(folder / f"first-{number}")
        ours.insert(project, 4)
        with ours.ledger(project) as connection:
            start = time.time()
            with measure.started(
                ours.worker_command(tasks_per_process=1), project, log=project / "worker.log"
            ) as worker:
                measure.wait_until(
                    lambda connection=connection: ours.succeeded(connection) == 4, within=60, every=0.001
                )
                last = time.time()
                measure.wait_until(lambda worker=worker: worker.poll() is not None, within=60, every=0.001)
                tail.append(time.time() - last)
            first.append(
                connection.execute("SELECT min(started_at + elapsed_seconds) FROM attempt").fetchone()[0] - start
            )
    return first, tail


if __name__ == "__main__":
    main()
