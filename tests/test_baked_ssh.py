"""A baked project on computers that see none of this one's files: the code goes there as a bundle, the tasks are in PostgreSQL."""

import json

import pytest

from shared_lib.tests.conftest import ssh_hosts
from shared_lib.tests.queues.services.postgresql import PostgresqlService

__all__ = ["ssh_hosts"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def extras():
    return ("postgresql",)


@pytest.fixture
def database(lacking):
    service = PostgresqlService()
    try:
        service.start()
    except FileNotFoundError as error:
        lacking(str(error))
    yield service
    service.stop()


def test_a_project_runs_on_hosts_that_get_its_code_over_ssh(synced, poe, ssh_hosts, database):
    hosts = [ssh_hosts.add(name) for name in ("ws1", "ws2")]
    task = synced / "task.py"
    task.write_text(
        "import os\n\n\ndef run_task(num1, num2):\n    return [num1 + num2, os.getcwd()]\n\n\n"
        "def filter_tasks(table, output_path):\n    return table\n"
    )
    settings = {
        "PROVIDER": "ssh",
        "HOSTS": "ws1:1 ws2:1",
        "SSH_OPTIONS": " ".join(ssh_hosts.options),
    }
    env = synced / "config" / "task.env"
    env.write_text(env.read_text() + f"QUEUE_URL={database.url(host='127.0.0.1')}\n")  # with its password
    poe("insert_tasks", "--limit", "200", **settings)
    assert "Chosen: ws1, ws2" in poe("plan", **settings).stdout
    report = poe("deploy_pool", "--yes", **settings)
    assert "JOB COMPLETE" in report.stdout
    poe("results", "-o", "results.json", **settings)
    rows = json.loads((synced / "results.json").read_text())
    assert len(rows) == 200
    assert {str(one.home) for one in hosts} >= {row["result"][1].partition("/.taskfleet")[0] for row in rows}
    assert not (synced / "jobs" / f"{next(iter(synced.glob('jobs/*.db'))).stem}.code").exists()
    assert [path for one in hosts for path in [*one.home.glob(".taskfleet"), *one.processes()]] == []
