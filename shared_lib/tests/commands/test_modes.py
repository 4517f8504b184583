"""What a job writes is readable for its user alone, whatever the umask."""

import stat
import subprocess
import sys

TASK = "def run_task(num1, num2):\n    print(num1)\n    return num1 + num2\n"


def modes(folder):
    """The mode of each file and folder, by its path."""
    return {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in sorted(folder.rglob("*"))}


def test_whatever_a_job_leaves_in_its_folder_is_for_the_user_alone(project):
    """A worker killed in the middle leaves the files beside the ledger, too."""

    def run(*words, **options):
        words = [sys.executable, "-c", "import os; os.umask(0)\nfrom taskfleet.cli import main\nmain()", *words]
        return subprocess.run(words, cwd=project, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)

    (project / "task.py").write_text(TASK)
    for words in (
        ["insert_tasks"],
        ["launch_worker", "--event-file", "jobs/events/all.jsonl", "--log-file", "jobs/logs/worker.log"],
        ["deploy_pool", "--yes", "--log-file", "jobs/logs/pool.log"],
    ):
        done = run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
    killing = (
        "import os, signal\nfrom pathlib import Path\nfrom taskfleet.ledger.database import open_ledger\n"
        "database = open_ledger(Path('jobs/sums.db'), job_id='sums')\n"
        "with database.transaction():\n    database.execute('UPDATE job SET project = project')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", f"import os; os.umask(0)\n{killing}"], cwd=project)
    found = modes(project / "jobs")
    assert {"sums.db", "sums.db-wal", "sums.db-shm", "events/all.jsonl", "logs/worker.log", "logs/pool.log"} <= set(
        found
    )
    folders = {name for name in found if (project / "jobs" / name).is_dir()}
    assert {name: oct(mode) for name, mode in found.items() if mode != (0o700 if name in folders else 0o600)} == {}
    assert stat.S_IMODE((project / "jobs").stat().st_mode) == 0o700
