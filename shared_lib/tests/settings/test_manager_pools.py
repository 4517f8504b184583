"""``config/pool.NAME.env``: the settings of a manager's pool."""

import pytest
from taskfleet.errors import SettingsError
from taskfleet.machine_terms import Range
from taskfleet.pool.job_machines import own_configurations
from taskfleet.pool.selection import pool_limits, pool_need
from taskfleet.settings import read_configuration
from taskfleet.settings.manager_files import managers_with_pool_file


@pytest.fixture
def project(tmp_path):
    files = {
        "task.env": "JOB_ID=job\nSLOTS=4\n",
        "pool.env": "PROVIDER=local\nMACHINES=1-5\nBUDGET_USD=20\nBEFORE_WORKER=one.sh\n",
        "task.gpu.env": "SLOTS=2\nexport SHADE=dark\n",
        "pool.gpu.env": "MACHINES=1\nMARKETS=on-demand\nBEFORE_WORKER=\nexport OF_POOL=yes\n",
        "task.plain.env": "",
        "pool.lost.env": "MACHINES=7\n",
    }
    (tmp_path / "config").mkdir()
    for name, text in files.items():
        (tmp_path / "config" / name).write_text(text)
    return tmp_path


def read(project, manager="", **more):
    return read_configuration(env_file=None, start=project, manager=manager, environ={}, **more)


def test_the_file_of_a_pool_overrides_that_of_the_default_one(project):
    gpu = read(project, "gpu")
    assert (gpu.pool.machines, [str(one) for one in gpu.pool.markets]) == (Range(1, 1), ["on-demand"])
    assert gpu.pool.before_worker is None  # an empty text is the default
    assert (gpu.pool.budget_usd, gpu.pool.provider) == (20.0, "local")
    assert gpu.exports == {"SHADE": "dark", "OF_POOL": "yes"}
    assert gpu.places["MACHINES"] == f"{project / 'config' / 'pool.gpu.env'}, line 1"
    assert read(project).pool.machines == read(project, "plain").pool.machines == Range(1, 5)
    assert read(project, "gpu", flags={"MACHINES": "3"}).pool.machines == Range(3, 3)


def test_the_slots_of_a_manager_limit_the_tasks_on_its_machines(project):
    assert pool_need(read(project, "gpu"), 100).tasks_per_machine.high == 2
    assert pool_need(read(project), 100).tasks_per_machine.high is None
    fewer = read(project, "gpu", flags={"TASKS_PER_MACHINE": "1"})
    assert pool_need(fewer, 100).tasks_per_machine == Range(1, 1)
    assert pool_limits(read(project, "gpu"), pool_need(read(project, "gpu"), 100)).budget_usd == 20.0


def test_what_belongs_elsewhere_is_refused_with_its_place_and_what_to_do(project):
    config = project / "config"
    (config / "pool.gpu.env").write_text(
        "BUDGET_USD=5\nPRICE_USD_PER_HOUR=-3\nBUCKET=s3://b\nBUDGET_NODE_HOURS=9\nSLOTS=1\nJOB_ID=other\nNO=1\n"
    )
    (config / "task.gpu.env").write_text("MACHINES=2\nBUDGET_USD=5\n")
    with pytest.raises(SettingsError) as caught:
        read(project, "gpu")
    said = str(caught.value).splitlines()
    for line, name in enumerate(("BUDGET_USD", "PRICE_USD_PER_HOUR", "BUCKET", "BUDGET_NODE_HOURS"), start=1):
        assert (
            f"  - {config / 'pool.gpu.env'}, line {line}: {name} is the same for all managers; remove it here" in said
        )
    assert f"  - {config / 'pool.gpu.env'}, line 5: SLOTS belongs into config/task.gpu.env; move it there" in said
    assert f"  - {config / 'pool.gpu.env'}, line 6: JOB_ID is the same for all managers; remove it here" in said
    assert f"  - {config / 'task.gpu.env'}, line 1: MACHINES belongs into config/pool.gpu.env; move it there" in said
    assert f"  - {config / 'task.gpu.env'}, line 2: BUDGET_USD is the same for all managers; remove it here" in said
    assert any("unknown setting NO" in one for one in said)


def test_a_file_of_no_manager_is_no_pool(project):
    """Other files beside it, such as ``config/pool.lost.env`` for ``-e``, must keep nobody from tearing down."""
    assert managers_with_pool_file(project) == ["gpu"]
    assert [one.manager for one in own_configurations(read(project))] == ["gpu"]
