"""Simulated pools for graphs: machines are launched for the tasks that can run now, not for those that wait for others."""

import pytest
from taskfleet.machines import EndReason
from taskfleet.pool import records

from shared_lib.tests.machines.contract import offer
from shared_lib.tests.pool.simulation import RAN_DRY, Weather
from shared_lib.tests.pool.test_simulation import STEP_SECONDS, folder, run

__all__ = ["folder", "run"]

ONE_SLOT = offer("one", "east-a", usd=0.036)


def launched_from(job, time):
    return [one for one in job.world.instances.values() if one.created_at >= time]


def play_until(job, condition):
    """Let steps go by until a condition holds."""
    for _ in range(100_000):
        if condition():
            return
        job.step()
        job.wait()
    raise AssertionError("it never came to that")


def test_one_task_after_ten_thousand_needs_one_machine(run):
    """The workers of all but the last machine end while the last tasks of the map run, and are not replaced."""
    job = run(tasks=[10_000, 1], idle_seconds=60.0, offers=[ONE_SLOT], max_machines=50)
    job.new_controller()
    play_until(job, lambda: job.world.done >= 10_000)
    began_at = job.world.now
    job.play()
    job.check()
    assert len(job.world.instances) >= 50
    assert len(launched_from(job, began_at)) <= 1


def test_a_million_tasks_that_wait_for_three_launch_no_machine_more(run):
    job = run(tasks=[3, 1_000_000], task_seconds=20_000.0, offers=[ONE_SLOT], max_machines=100)
    job.new_controller()
    for _ in range(100):
        job.step()
        job.wait()
    assert job.world.done == 0
    assert len(job.world.instances) == 3
    play_until(job, lambda: job.world.done >= 3)
    for _ in range(20):
        job.step()
        job.wait()
    assert len(job.world.alive()) == 100
    job.tear_down()


def test_a_worker_that_ran_dry_between_two_layers_is_no_failure_and_is_replaced_once_there_is_something_to_run(run):
    job = run(
        Weather(boot_seconds=(300.0, 300.0)),
        tasks=[4, 1, 4],
        task_seconds=2000.0,
        idle_seconds=60.0,
        offers=[ONE_SLOT],
        max_machines=4,
    )
    job.new_controller()
    play_until(job, lambda: job.world.done >= 4)
    world = job.world
    play_until(job, lambda: len(world.alive()) == 1 or world.done >= 5)
    assert (len(world.alive()), world.done) == (1, 4)  # three ended, and one runs the single task
    dry = [one for one in world.instances.values() if one.reason == RAN_DRY]
    assert len(dry) == 3
    play_until(job, lambda: world.done >= 5)
    assert len(world.instances) == 4
    began_at = world.now
    job.play()
    job.check()
    assert len(launched_from(job, began_at)) == 3
    assert launched_from(job, began_at)[0].created_at <= began_at + 3 * STEP_SECONDS  # without the pause after failures
    ends = [one.end_reason for one in records.all_machines(job.database)]
    assert set(ends) <= {EndReason.ENDED, EndReason.GONE, EndReason.DONE}


def test_machines_that_come_too_late_for_a_layer_end_and_do_not_end_the_pool(run):
    job = run(
        Weather(boot_seconds=(30.0, 500.0)),
        tasks=[6, *[1] * 10],
        task_seconds=40.0,
        idle_seconds=30.0,
        max_machines=6,
        needs_canary=False,
        offers=[ONE_SLOT],
    )
    job.play()
    job.check()
    assert job.gave_up is None
    assert any(one.reason == RAN_DRY and not one.done for one in job.world.instances.values())


@pytest.mark.parametrize("waiting", [0, 1_000_000])
def test_no_machine_is_launched_while_everything_waits_and_the_pool_is_not_complete(run, waiting):
    job = run(tasks=[1, 1], offers=[ONE_SLOT])
    job.world.tasks_left = lambda: 1 + waiting
    job.world.tasks_runnable = lambda: 0
    job.new_controller()
    assert not job.step().is_complete
    assert job.world.instances == {}
