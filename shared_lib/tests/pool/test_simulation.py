"""Simulated jobs on simulated clouds: no machine is orphaned or unaccounted for, and no limit is exceeded, whatever happens."""

import math
import os
import random
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from taskfleet.ledger.database import create
from taskfleet.machine_terms import Market
from taskfleet.machines import EndReason, MachineState
from taskfleet.pool import records
from taskfleet.pool.controller import Controller
from taskfleet.pool.planning import MIN_LIFETIME_SECONDS, HoldReason, Limits
from taskfleet.pool.records import End

from shared_lib.tests.machines.contract import offer
from shared_lib.tests.pool.simulation import (
    Cloud,
    ControllerDied,
    MortalLedger,
    Weather,
    World,
    draw,
    draw_queue,
    draw_weather,
)

RUNS = 2000
QUEUE_RUNS = 400
FIRST_SEED = int(os.environ.get("POOL_SEED", "1000000"))
STEP_SECONDS = 20.0
NODES_PER_USD = 10.0
#: The step with queues of hours.
QUEUE_STEP_SECONDS = 120.0
#: A run that takes longer on its own clock is stuck; with a queue, there may be days before each machine.
LONGEST_SECONDS = 10 * 86_400.0
LONGEST_QUEUE_SECONDS = 100 * 86_400.0


class Run:
    """One job on one simulated cloud."""

    def __init__(
        self,
        folder,
        chance,
        weather,
        offers,
        *,
        tasks,
        task_seconds,
        limits,
        step_seconds=STEP_SECONDS,
        idle_seconds=math.inf,
    ):
        self.world = World(chance, weather, tasks=tasks, task_seconds=task_seconds, idle_seconds=idle_seconds)
        self.cloud = Cloud(self.world)
        self.offers, self.limits = offers, limits
        self.nodes_per_usd = offers[0].nodes / max(offers[0].usd_per_hour, 1e-9)
        """The same for all offers, so that what is true of costs in USD is true of node-hours."""
        self.step_seconds = step_seconds
        self.longest_seconds = LONGEST_SECONDS if weather.queue_seconds is None else LONGEST_QUEUE_SECONDS
        self.said = []
        self.database = create(folder / "job.db", job_id="job", project=folder, now=self.world.now)
        self.database.execute("PRAGMA synchronous = OFF")
        self.world.database = self.database
        self.controller = None
        self.gave_up = None
        """The reason, if it did."""

    def say(self, text):
        self.said.append((self.world.now, text))

    def new_controller(self, **options):
        self.controller = Controller(
            MortalLedger(self.database, self.world),
            self.cloud,
            self.world,
            name="job",
            offers=self.offers,
            limits=self.limits,
            say=self.say,
            can_queue=self.world.weather.queue_seconds is not None,
            poll_seconds=self.step_seconds,
            **options,
        )

    def play(self, **options):
        """Run until all tasks are done or the pool gives up, and no machine is left."""
        world = self.world
        began_at = world.now
        self.gave_up = None
        world.is_over = False
        self.new_controller(**options)
        while world.now - began_at < self.longest_seconds:
            try:
                found = self.step()
                if found is not None and found.is_complete:
                    break
                if found is not None and found.gives_up:
                    self.gave_up = found.hold.reason
                    break
                self.wait()
            except ControllerDied:
                self.say("the controller dies")
                world.advance(world.chance.uniform(0, world.weather.longest_absence_seconds))
                self.new_controller()
        else:
            raise AssertionError("stuck")
        self.tear_down()

    def step(self):
        found = self.controller.step(self.world.now)
        self.world.record_events()  # after the step: a new controller knows only the earlier events
        return found

    def wait(self):
        """Advance to the next step; record the events of workers meanwhile."""
        for _ in range(int(self.step_seconds // STEP_SECONDS) - 1):
            self.world.advance(STEP_SECONDS)
            self.world.record_events()
        self.world.advance(STEP_SECONDS)

    def tear_down(self):
        world = self.world
        world.is_over = True
        for _ in range(1000):
            try:
                if not self.controller.terminate_all(world.now, End(EndReason.STOPPED)):
                    return
            except ControllerDied:
                self.new_controller()
            except Exception as error:  # the cloud does not answer
                self.say(str(error))
            world.advance(STEP_SECONDS)
        raise AssertionError("machines are left")

    def close(self):
        self.database.close()

    def check(self):
        world, limits = self.world, self.limits
        if not self.gave_up:
            assert world.done == world.tasks
        assert world.alive() == []
        assert world.ended_in_vain == 0
        assert world.cancelled_in_vain == 0 or self.gave_up is HoldReason.NOTHING_WORKED
        assert world.most_at_once <= limits.max_machines
        assert world.most_slots_at_once <= limits.max_slots
        known = {one.instance_id or one.token: one for one in records.all_machines(self.database)}
        true_cost = sum(one.cost_usd(world.now) for one in world.instances.values())
        unseen = Counter()
        for one in world.instances.values():
            record = known.pop(one.instance_id, None)
            if record is None:  # it started and ended unseen; its token is unknown
                unseen[one.order.token] += one.cost_usd(0.0)
                continue
            assert record.ordered_at <= one.created_at
            assert record.ended_at >= one.ended_at
            assert record.cost_usd(0.0) >= one.cost_usd(0.0) - 1e-9
        for order, usd in unseen.items():
            assert sum(one.cost_usd(0.0) for one in known.values() if one.order_token == order) >= usd - 1e-9
        assert records.spent_usd(self.database) >= true_cost - 1e-9
        assert records.spent_node_hours(self.database) == pytest.approx(
            self.nodes_per_usd * records.spent_usd(self.database)
        )
        assert records.open_machines(self.database) == []
        highest_usd_per_hour = max(one.usd_per_hour for one in self.offers)
        slack_usd = limits.max_machines * highest_usd_per_hour * 120 / 3600
        assert true_cost <= limits.budget_usd + slack_usd
        assert self.nodes_per_usd * true_cost <= limits.budget_node_hours + self.nodes_per_usd * slack_usd


def draw_run(seed, folder, draw_weather, step_seconds):
    chance, weather, offers = draw(seed, draw_weather)
    most = chance.choice([1, 3, 10])
    tasks = chance.choice([5, 60, 400])
    limits = Limits(
        max_machines=most,
        max_slots=chance.choice([math.inf, math.inf, 16, 40]),
        budget_usd=chance.choice([math.inf, 50.0, 2.0, 0.2]),
        lifetime_seconds=chance.choice([86_400.0, 3600.0]),
        boot_seconds=600.0,
        needs_canary=weather.queue_seconds is None or chance.random() < 0.5,
    )
    task_seconds = chance.choice([10.0, 120.0])
    layers = random.Random(seed)  # numbers of its own, so that the others stay as they were
    idle_seconds = layers.choice([math.inf, 60.0, 300.0])
    if weather.queue_seconds is not None:  # as in the batch system of a cluster
        offers = [replace(one, nodes=NODES_PER_USD * one.usd_per_hour) for one in offers]
        limits = replace(limits, budget_node_hours=layers.choice([math.inf, math.inf, 500.0, 20.0]))
    if layers.random() < 0.5:
        tasks = [tasks, 1, layers.choice([1, 20, 300])]
    return Run(
        folder,
        chance,
        weather,
        offers,
        tasks=tasks,
        task_seconds=task_seconds,
        limits=limits,
        step_seconds=step_seconds,
        idle_seconds=idle_seconds,
    )


def play_many(folder, seeds, draw_weather, step_seconds=STEP_SECONDS):
    """Play a run for each seed; return how many were done and how many gave up."""
    ended = {"done": 0, "given up": 0}
    for seed in seeds:
        (folder / str(seed)).mkdir()
        run = draw_run(seed, folder / str(seed), draw_weather, step_seconds)
        try:
            run.play()
            run.check()
        except AssertionError as error:
            story = "\n".join(f"{at - 1e6:9.0f}  {text}" for at, text in run.said[-60:])
            raise AssertionError(f"seed {seed}: {error}\n{run.world.weather}\n{run.limits}\n{story}") from error
        finally:
            run.close()
        ended["given up" if run.gave_up else "done"] += 1
    return ended


@pytest.fixture
def folder():
    """A folder in memory if possible, since there are thousands of ledgers."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="taskfleet-pool-", dir=place) as name:
        yield Path(name)


@pytest.fixture
def run(folder):
    made = []

    def run(weather=None, *, offers=None, tasks=40, seed=1, step_seconds=STEP_SECONDS, **more):
        world = {"task_seconds": 30.0} | {key: more.pop(key) for key in ("task_seconds", "idle_seconds") if key in more}
        chance = random.Random(seed)
        offers = offers or draw(3)[2]
        (folder / str(len(made))).mkdir()
        made.append(
            Run(
                folder / str(len(made)),
                chance,
                weather or Weather(),
                offers,
                tasks=tasks,
                limits=Limits(**{"max_machines": 4, **more}),
                step_seconds=step_seconds,
                **world,
            )
        )
        return made[-1]

    yield run
    for one in made:
        one.close()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_whatever_the_cloud_does_no_machine_is_left_and_nothing_costs_too_much(folder):
    ended = play_many(folder, range(FIRST_SEED, FIRST_SEED + RUNS), draw_weather)
    assert ended["done"] > RUNS / 2
    assert ended["given up"] > RUNS / 50


def test_a_quiet_cloud_needs_no_more_machines_than_there_may_be(run):
    job = run(tasks=100)
    job.play()
    job.check()
    assert 0 < len(job.world.instances) <= 4


def test_the_first_machine_is_alone_until_its_first_heartbeat(run):
    job = run(Weather(boot_seconds=(100.0, 100.0)), tasks=500)
    job.new_controller()
    while job.world.now < 1_000_090:
        job.step()
        assert len(job.world.instances) == 1
        job.world.advance(10)
    for _ in range(5):
        job.step()
        job.world.advance(10)
    assert len(job.world.instances) > 1
    job.tear_down()


def test_if_no_machine_ever_gets_ready_three_are_enough(run):
    job = run(Weather(never_boots=True))
    job.play()
    job.check()
    assert len(job.world.instances) == 3
    assert job.gave_up is HoldReason.NOTHING_WORKED
    assert job.world.now - 1_000_000 < 3 * (job.limits.boot_seconds + 120)


def test_a_pool_that_gave_up_is_not_given_up_at_once_by_the_next_controller(run):
    job = run(Weather(never_boots=True))
    job.play()
    assert job.gave_up is HoldReason.NOTHING_WORKED
    again = job.world.now
    job.play(failures_since=again)
    assert job.gave_up is HoldReason.NOTHING_WORKED
    assert len(job.world.instances) == 6
    job.world.weather = Weather()
    job.play(failures_since=job.world.now)
    job.check()
    assert job.gave_up is None


@pytest.mark.parametrize("reason", [EndReason.STOPPED, EndReason.TORN_DOWN, EndReason.TERMINATED])
def test_machines_that_the_user_ended_while_they_booted_say_nothing_of_the_next(run, reason):
    job = run(Weather(boot_seconds=(300.0, 300.0)))
    for _ in range(3):
        job.new_controller()
        job.step()
        job.world.advance(100)
        while job.controller.terminate_all(job.world.now, End(reason)):
            job.world.advance(STEP_SECONDS)
    assert [one.end_reason for one in records.all_machines(job.database)] == [reason] * 3
    job.play()
    job.check()
    assert job.gave_up is None


def test_a_controller_that_never_comes_back_leaves_no_machine_and_keeps_to_the_budget(run):
    job = run(tasks=100_000, task_seconds=100.0, budget_usd=1.0, lifetime_seconds=86_400.0)
    job.new_controller()
    for _ in range(20):
        job.step()
        job.world.advance(STEP_SECONDS)
    assert job.world.alive()
    for _ in range(30 * 24):
        job.world.advance(3600.0)
    assert not job.world.alive()
    assert sum(one.cost_usd(job.world.now) for one in job.world.instances.values()) <= 1.0 + 0.01


def test_a_computer_that_slept_for_an_hour_ends_no_machine_that_worked_meanwhile(run):
    job = run(tasks=100_000, task_seconds=100.0)
    job.new_controller()
    for _ in range(20):
        job.step()
        job.world.advance(STEP_SECONDS)
    at_work = len(job.world.alive())
    assert at_work == 4
    job.world.advance(3600.0)
    for _ in range(3):
        job.step()
        assert len(job.world.alive()) == at_work
        job.world.advance(STEP_SECONDS)
    assert job.world.ended_in_vain == 0
    job.tear_down()


def test_an_unexpected_machine_is_terminated(run):
    job = run(tasks=10)
    job.new_controller()
    other = run(tasks=10, seed=2)
    other.world, other.cloud = job.world, job.cloud
    job.world.database = other.database
    other.new_controller()
    other.controller.step(job.world.now)
    assert len(job.world.alive()) == 1
    job.controller.step(job.world.now)
    job.world.advance(100)
    [unexpected] = [one for one in job.world.instances.values() if one.reason == "terminated"]
    assert unexpected.ended_at
    job.play()
    assert job.world.alive() == []


def test_a_machine_that_ignores_its_termination_is_terminated_again(run):
    job = run(Weather(deaf_to_endings=1.0), tasks=5)
    job.play()
    assert all(one.reason == "terminated" for one in job.world.instances.values())
    done_at = max(one.heard_at for one in job.world.instances.values())
    assert job.world.now - done_at < 300


def test_an_order_that_nobody_knows_of_may_be_carried_out_for_some_time_yet():
    order = dict.fromkeys(("token", "order_token", "provider", "zone", "instance_type"), "")
    record = records.MachineRecord(
        **order,
        instance_id=None,
        market=Market.SPOT,
        usd_per_hour=36.0,
        slots=1,
        cpus=1,
        lifetime_seconds=1000.0,
        ordered_at=0.0,
        started_at=None,
        ready_at=None,
        ended_at=None,
        end_reason=None,
        ending_since=None,
        detail="",
        can_queue=False,
        running_at=None,
    )
    assert record.max_cost_usd(0.0) == pytest.approx(10.0)
    assert record.max_cost_usd(60.0) == pytest.approx(10.6)
    assert record.max_cost_usd(500.0) == pytest.approx(11.2)
    assert replace(record, started_at=30.0).max_cost_usd(500.0) == pytest.approx(10.3)
    assert replace(record, started_at=30.0, ended_at=200.0).max_cost_usd(500.0) == pytest.approx(2.0)


def test_a_budget_that_is_too_small_for_anything_is_reported(run):
    job = run(budget_usd=0.0001)
    job.play()
    assert job.gave_up is HoldReason.BUDGET
    assert not job.world.instances


def test_a_machine_is_ordered_for_as_long_as_the_budget_bears(run):
    job = run(tasks=10_000, budget_usd=1.0, lifetime_seconds=86_400.0)
    job.play()
    lifetimes = [one.order.lifetime_seconds for one in job.world.instances.values()]
    assert all(MIN_LIFETIME_SECONDS <= one < 86_400 for one in lifetimes)
    job.check()


def test_listed_states_are_what_the_contract_says(run):
    job = run()
    job.new_controller()
    job.controller.step(job.world.now)
    [machine] = job.cloud.list()
    assert machine.state is MachineState.RUNNING
    job.cloud.terminate([machine.instance_id])
    assert job.cloud.list()[0].state is MachineState.ENDING
    job.world.advance(60)
    assert job.cloud.list()[0].state is MachineState.ENDED


# --- machines that wait in a queue ---

QUEUE = Weather(queue_seconds=(2 * 3600.0, 6 * 3600.0))
NODE = Weather(queue_seconds=(300.0, 300.0), boot_seconds=(400.0, 400.0))
"""A node takes five minutes to appear, and the machine nearly seven to boot: more than BOOT_MINUTES together."""


def hosts(number):
    """Computers of one's own: each is there once, and costs nothing."""
    return [
        replace(one, zone="ssh", market=Market.ON_DEMAND, usd_per_hour=0.0, usd_per_slot_hour=0.0, is_single=True)
        for one in (offer(f"ws{n}", "ssh", slots=n) for n in range(1, number + 1))
    ]


@pytest.mark.parametrize("seed", range(20))
def test_each_computer_of_one_s_own_has_one_machine_at_most(run, seed):
    """Some do not boot, end for no reason, or do not answer in time, and the controller dies."""
    weather = draw_weather(random.Random(seed))
    one = run(weather, offers=hosts(3), tasks=60, seed=seed, max_machines=10)
    one.play()
    assert one.world.most_at_once <= 3
    assert not one.world.alive()


def test_the_computers_that_there_are_get_one_request(run):
    one = run(offers=hosts(3), tasks=60, max_machines=10, needs_canary=False)
    one.play()
    assert one.world.most_at_once == 3
    assert one.world.refused_twice == 0
    assert one.gave_up is None


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_whatever_a_queue_does_no_machine_is_left_and_nothing_costs_too_much(folder):
    ended = play_many(folder, range(FIRST_SEED, FIRST_SEED + QUEUE_RUNS), draw_queue, QUEUE_STEP_SECONDS)
    assert ended["done"] > QUEUE_RUNS / 2


@pytest.mark.parametrize("weather", [QUEUE, NODE], ids=["for hours", "until its node is there"])
def test_a_machine_that_waits_is_left_in_the_queue(run, weather):
    job = run(weather, tasks=100)
    job.play()
    job.check()
    assert not job.gave_up
    assert len(job.world.instances) <= 4


def test_what_waits_costs_nothing_and_sets_aside_what_it_will_cost(run):
    job = run(QUEUE, tasks=10_000, budget_usd=1000.0, lifetime_seconds=3600.0)
    job.new_controller()
    for _ in range(100):
        job.step()
        for one in records.open_machines(job.database):
            assert one.cost_usd(job.world.now) == 0
            assert one.max_cost_usd(job.world.now) == pytest.approx(one.usd_per_hour)
        job.world.advance(60)
    job.tear_down()
    assert records.spent_usd(job.database) == 0


def test_the_time_in_the_queue_is_not_in_the_costs(run):
    job = run(QUEUE, tasks=100)
    job.play()
    job.check()
    true_cost = sum(one.cost_usd(job.world.now) for one in job.world.instances.values())
    highest_usd_per_hour = max(one.usd_per_hour for one in job.offers)
    unseen_usd = len(job.world.instances) * highest_usd_per_hour * 2 * STEP_SECONDS / 3600
    assert true_cost <= records.spent_usd(job.database) <= true_cost + unseen_usd


def test_a_budget_in_node_hours_holds_where_nothing_has_a_price(run):
    node = offer("node", "main", slots=4, nodes=2.0)
    job = run(QUEUE, tasks=100_000, offers=[node], budget_node_hours=10.0, lifetime_seconds=3600.0, needs_canary=False)
    job.play()
    assert job.gave_up is HoldReason.BUDGET
    true_hours = sum(2.0 * (one.ended_at - one.running_at) / 3600 for one in job.world.instances.values())
    assert 8.0 < true_hours <= records.spent_node_hours(job.database) <= 10.0 + 1e-9
    assert records.spent_usd(job.database) == 0


def one_slot(usd_per_hour=0.036):
    return offer("one", "east-a", usd=usd_per_hour)


def test_what_waits_fills_the_pool_and_is_ended_when_no_tasks_are_left(run):
    """Queued machines start in any order; those that start first run all tasks, and the others never run."""
    job = run(
        Weather(queue_seconds=(600.0, 86_400.0)), tasks=4, task_seconds=10.0, offers=[one_slot()], needs_canary=False
    )
    job.play()
    job.check()
    assert job.gave_up is None
    assert len(job.world.instances) == 4
    machines = records.all_machines(job.database)
    assert {one.end_reason for one in machines} == {EndReason.DONE}
    never_ran = [one for one in machines if one.running_at is None]
    assert never_ran
    assert not any(one.cost_usd(job.world.now) for one in never_ran)


def test_where_one_looks_every_five_minutes_a_worker_that_fell_silent_is_noticed(run):
    weather = Weather(queue_seconds=(0.0, 10.0), silence_seconds=600.0)
    job = run(weather, tasks=200, task_seconds=60.0, offers=[one_slot()], step_seconds=300.0)
    job.play()
    job.check()
    assert EndReason.SILENT in {one.end_reason for one in records.all_machines(job.database)}


def test_with_a_canary_nothing_is_requested_while_the_first_machine_waits(run):
    job = run(QUEUE, tasks=500)
    job.new_controller()
    while all(one.waits(job.world.now) for one in job.world.alive()):
        job.step()
        job.world.advance(60)
    assert len(job.world.instances) == 1
    job.tear_down()


def test_without_a_canary_all_machines_are_requested_at_once(run):
    job = run(QUEUE, tasks=5000, offers=[one_slot()], max_machines=250, needs_canary=False, machines_per_request=1000)
    job.new_controller()
    job.step()
    assert len(job.world.instances) == 250
    assert records.count_requests(job.database) == 1
    job.tear_down()


def test_if_the_first_machines_do_nothing_the_others_are_removed_from_the_queue(run):
    weather = Weather(queue_seconds=(0.0, 20 * 3600.0), never_boots=True)
    job = run(weather, tasks=5000, offers=[one_slot()], max_machines=100, needs_canary=False)
    job.play()
    job.check()
    assert job.gave_up is HoldReason.NOTHING_WORKED
    machines = records.all_machines(job.database)
    assert len(machines) == 102  # the first two were replaced
    assert sum(one.end_reason is EndReason.NOTHING_WORKED for one in machines) > 80
    third_at = sorted(one.running_at for one in job.world.instances.values())[2]
    assert job.world.now < third_at + 2 * job.limits.boot_seconds + 200  # some had begun to boot by then


def test_what_is_cancelled_in_the_queue_is_requested_again_but_not_endlessly(run):
    weather = Weather(queue_seconds=(30.0, 90.0), cancelled_in_queue=1.0)
    job = run(weather, offers=[one_slot()], max_machines=1)
    job.new_controller()
    began_at = job.world.now
    while job.world.now < began_at + 86_400:
        job.step()
        job.world.advance(60)
    machines = records.all_machines(job.database)
    assert 24 <= len(machines) < 40
    gone = [one for one in machines if one.ended_at is not None]
    assert {(one.end_reason, one.detail) for one in gone} == {(EndReason.CANCELLED, "cancelled")}
    assert records.spent_usd(job.database) == 0
    job.tear_down()


def test_what_waits_is_within_the_budget_when_all_of_it_runs_at_once(run):
    """Queued machines reserve their maximum costs, so that no more are requested than the budget allows."""
    weather = Weather(queue_seconds=(36_000.0, 36_000.0))
    job = run(
        weather,
        tasks=100_000,
        offers=[one_slot(1.0)],
        max_machines=100,
        budget_usd=3.0,
        lifetime_seconds=3600.0,
        needs_canary=False,
    )
    job.new_controller()
    for _ in range(20):
        job.step()
        job.world.advance(STEP_SECONDS)
    assert len(job.world.instances) == 18  # for ten minutes each: a shorter lifetime is of no use
    job.world.advance(86_400.0)
    assert not job.world.alive()
    assert sum(one.cost_usd(job.world.now) for one in job.world.instances.values()) <= 3.0 + 1e-9
