"""Simulated jobs with two pools at one provider: they leave each other's machines alone and share what the job may spend."""

import math
import random
from collections import Counter
from dataclasses import replace

import pytest
from taskfleet.ledger import managers
from taskfleet.ledger.database import create
from taskfleet.machines import EndReason, FailureReason
from taskfleet.pool import records
from taskfleet.pool.controller import Controller
from taskfleet.pool.planning import MIN_LIFETIME_SECONDS, Limits
from taskfleet.pool.pools import Pools
from taskfleet.pool.records import End

from shared_lib.tests.machines.contract import offer
from shared_lib.tests.pool.simulation import Cloud, ControllerDied, MortalLedger, Weather, World, draw
from shared_lib.tests.pool.test_simulation import FIRST_SEED, LONGEST_SECONDS, STEP_SECONDS, folder

__all__ = ["folder"]

RUNS = 200
ONE_SLOT = offer("one", "east-a", usd=0.036)
GPU = offer("gpu", "east-a", usd=0.36)
DEFAULT, OF_GPU = 0, 1


class PoolWorld(World):
    """The tasks and machines of one pool. Its tasks can run once ``is_open`` returns true."""

    def __init__(self, *arguments, is_open=lambda: True, **options):
        super().__init__(*arguments, **options)
        self._is_open = is_open
        self._closed, self.waiting = self.waiting, 0
        self.job = [self]

    def _tick(self):
        if self._closed and self._is_open():
            self.waiting, self._closed = self.waiting + self._closed, 0
        super()._tick()

    def tasks_left(self):
        return sum(one.tasks - one.done for one in self.job)

    def tasks_runnable(self):
        return super().tasks_runnable() - self._closed

    def _known(self):
        for token, instance_id in self.database.rows(
            "SELECT token, instance_id FROM machine WHERE instance_id IS NOT NULL"
        ):
            if instance_id in self.instances:
                yield token, self.instances[instance_id]


class SharedCloud:
    """The cloud as one pool sees it: it launches its own machines, and lists and terminates those of the whole job."""

    name = "simulated"

    def __init__(self, clouds, own):
        self._clouds, self._own = clouds, own

    def launch(self, order):
        return self._own.launch(order)

    def list(self):
        return [one for cloud in self._clouds for one in cloud.list()]

    def terminate(self, instance_ids):
        for cloud in self._clouds:
            if of_it := [one for one in instance_ids if one in cloud._world.instances]:
                cloud.terminate(of_it)

    def console(self, instance_id):
        return ""


class PoolsRun:
    """One job with two pools."""

    def __init__(self, folder, chance, weathers, offers, *, tasks, limits, idle_seconds=60.0, gate=None):
        self.database = create(folder / "job.db", job_id="job", project=folder, now=1_000_000.0)
        self.database.execute("PRAGMA synchronous = OFF")
        assert managers.number_of(self.database, "gpu") == OF_GPU
        first = PoolWorld(chance, weathers[0], tasks=tasks[0], task_seconds=60.0, idle_seconds=idle_seconds)
        second = PoolWorld(
            chance,
            weathers[1],
            tasks=tasks[1],
            task_seconds=60.0,
            idle_seconds=idle_seconds,
            is_open=lambda: gate is None or first.done >= gate,
        )
        second.prefix = "j"
        self.worlds = [first, second]
        self.clouds = [Cloud(one) for one in self.worlds]
        for one in self.worlds:
            one.job, one.database = self.worlds, self.database
        self.offers, self.limits = offers, limits
        self.said = []
        self.made = []
        self.pools = None
        self.reason = None

    @property
    def now(self):
        return self.worlds[0].now

    def make(self, number, say):
        self.made.append(number)
        return Controller(
            MortalLedger(self.database, self.worlds[number]),
            SharedCloud(self.clouds, self.clouds[number]),
            self.worlds[number],
            name="job",
            offers=self.offers[number],
            limits=self.limits[number],
            say=say,
            poll_seconds=STEP_SECONDS,
            manager_id=number,
        )

    def new_controller(self):
        self.made = []
        self.pools = Pools(
            self.database,
            self.make,
            needed=lambda: [number for number, one in enumerate(self.worlds) if one.tasks_runnable()],
            say=lambda text: self.said.append((self.now, text)),
        )
        of_machines = {one.manager_id for one in records.open_machines(self.database)}
        for number in sorted({DEFAULT, *of_machines}):
            self.pools.add(number)

    def wait(self, seconds=STEP_SECONDS):
        for world in self.worlds:
            world.advance(seconds)

    def step(self):
        found = self.pools.step(self.now)
        for world in self.worlds:
            world.record_events()
        return found

    def play(self, steps=None):
        """Run until the pools are complete or give up, or for a number of steps; then terminate all machines."""
        began_at = self.now
        self.new_controller()
        left = steps
        while self.now - began_at < LONGEST_SECONDS:
            try:
                found = self.step()
                if found.is_complete or found.give_up_reason or left == 0:
                    self.reason = found.give_up_reason
                    break
                left = None if left is None else left - 1
                self.wait()
            except ControllerDied:
                self.wait(self.worlds[0].chance.uniform(0, 600.0))
                self.new_controller()
        else:
            raise AssertionError("stuck")
        self.tear_down()

    def tear_down(self):
        for world in self.worlds:
            world.is_over = True
        for _ in range(1000):
            try:
                if not self.pools.terminate_all(self.now, End(EndReason.STOPPED)):
                    return
            except ControllerDied:
                self.new_controller()
            except Exception as error:  # the cloud does not answer
                self.said.append((self.now, str(error)))
            self.wait()
        raise AssertionError("machines are left")

    def check(self):
        assert all(world.alive() == [] for world in self.worlds)
        assert records.open_machines(self.database) == []
        assert all(world.ended_in_vain == 0 for world in self.worlds)
        for number, world in enumerate(self.worlds):
            assert world.most_at_once <= self.limits[number].max_machines
            orders = {one.order_token for one in records.all_machines(self.database) if one.manager_id == number}
            assert {one.order.token for one in world.instances.values()} <= orders
        true_cost = sum(one.cost_usd(self.now) for world in self.worlds for one in world.instances.values())
        assert records.spent_usd(self.database) >= true_cost - 1e-9
        slack_usd = sum(
            limits.max_machines * max(one.usd_per_hour for one in offers) * 120 / 3600
            for limits, offers in zip(self.limits, self.offers, strict=True)
        )
        assert true_cost <= self.limits[0].budget_usd + slack_usd

    def done(self):
        return [world.done for world in self.worlds]

    def most_expensive_hour(self):
        """The highest price per hour of all machines at one time, as the ledger has it."""
        times = [one.ordered_at for one in records.all_machines(self.database)]
        return max(
            sum(
                one.usd_per_hour
                for one in records.all_machines(self.database)
                if one.ordered_at <= at < (one.ended_at or math.inf)
            )
            for at in times
        )


@pytest.fixture
def run(folder):
    made = []

    def run(*, weathers=None, tasks=(40, 20), gate=None, seed=1, offers=((ONE_SLOT,), (GPU,)), **limits):
        (folder / str(len(made))).mkdir()
        given = [Limits(**{"max_machines": most, "needs_canary": False, **limits}) for most in (4, 2)]
        chance = random.Random(seed)
        weathers = weathers or [Weather(), Weather()]
        made.append(PoolsRun(folder / str(len(made)), chance, weathers, offers, tasks=tasks, limits=given, gate=gate))
        return made[-1]

    yield run
    for one in made:
        one.database.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whatever_the_cloud_does_the_pools_leave_each_others_machines_alone(folder):
    ended = Counter()
    for seed in range(FIRST_SEED, FIRST_SEED + RUNS):
        (folder / str(seed)).mkdir()
        chance, weather, offers = draw(seed)
        _, other_weather, other_offers = draw(seed + 10**6)
        limits = Limits(
            max_machines=chance.choice([1, 3, 10]),
            budget_usd=chance.choice([math.inf, 50.0, 2.0, 0.2]),
            max_usd_per_hour=chance.choice([math.inf, 1.0]),
        )
        job = PoolsRun(
            folder / str(seed),
            chance,
            # without machines that get ready after their termination was decided, and before a controller that was killed repeats it
            [replace(one, slow_boots=0.0) for one in (weather, other_weather)],
            [offers, other_offers],
            tasks=[chance.choice([5, 60, 300]), [chance.choice([1, 40]), 5]],
            limits=[limits, limits],
            idle_seconds=chance.choice([60.0, 300.0]),
            gate=chance.choice([None, 5]),
        )
        try:
            job.play()
            job.check()
            assert job.reason or all(one.done == one.tasks for one in job.worlds)
        except AssertionError as error:
            story = "\n".join(f"{at - 1e6:9.0f}  {text}" for at, text in job.said[-60:])
            raise AssertionError(f"seed {seed}: {error}\n{weather}\n{other_weather}\n{limits}\n{story}") from error
        finally:
            job.database.close()
        ended[bool(job.reason)] += 1
    assert ended[False] > RUNS / 2
    assert ended[True] > 0


def test_two_pools_finish_a_job_and_each_message_has_its_pool(run):
    job = run()
    job.play()
    job.check()
    assert job.done() == [40, 20]
    assert job.made == [DEFAULT, OF_GPU]
    texts = [text for _, text in job.said]
    assert any(text.startswith("Pool default: ") for text in texts)
    assert any(text.startswith("Pool gpu: ") for text in texts)
    assert not any("Unexpected machine" in text for text in texts)


def test_a_manager_without_tasks_to_run_has_no_pool_until_it_has_some(run):
    job = run(gate=40)
    job.new_controller()
    while job.worlds[0].done < 40:
        assert job.made == [DEFAULT]
        assert job.worlds[1].instances == {}
        job.step()
        job.wait()
    assert not any("Pool " in text for _, text in job.said)
    began_at = job.now
    job.play()
    job.check()
    assert job.made == [DEFAULT, OF_GPU]
    assert job.done() == [40, 20]
    assert all(one.created_at >= began_at for one in job.worlds[1].instances.values())


def test_a_pool_without_capacity_keeps_the_other_from_nothing_and_the_job_from_its_end(run):
    job = run(weathers=[Weather(), Weather(stock_out=1.0)])
    job.new_controller()
    for _ in range(200):
        found = job.step()
        assert not found.is_complete
        assert not found.give_up_reason
        job.wait()
    assert job.done() == [40, 0]
    assert job.worlds[0].alive() == []  # what has no tasks costs nothing
    assert job.worlds[1].instances == {}
    job.worlds[1].weather = Weather()
    job.play()
    job.check()
    assert job.done() == [40, 20]


def test_a_pool_that_gives_up_lets_the_other_finish_first(run, monkeypatch):
    job = run()
    monkeypatch.setattr(job.clouds[1], "_refusal", lambda offer: FailureReason.INVALID)
    job.play()
    job.check()
    assert job.done() == [40, 0]
    assert job.reason == "Pool gpu: the provider rejects every offer that fits"


def test_the_price_per_hour_limits_the_machines_of_all_pools_together(run):
    job = run(max_usd_per_hour=0.4)  # one machine of gpu and one of the default manager; not two of gpu
    job.play()
    job.check()
    assert job.done() == [40, 20]
    assert job.most_expensive_hour() <= 0.4


def test_a_pool_does_not_take_what_another_one_needs_for_its_first_machine(run):
    """Alone, the default manager would have ten machines for the whole price."""
    job = run(tasks=(4000, 20), max_usd_per_hour=0.4, offers=((offer("ten", "east-a", usd=0.1),), (ONE_SLOT,)))
    job.new_controller()
    for _ in range(5):
        job.step()
        job.wait()
    assert len(job.worlds[0].alive()) >= 2
    assert len(job.worlds[1].alive()) >= 1
    job.tear_down()


@pytest.mark.parametrize("budget_usd", [0.2, 1.0])
def test_the_budget_is_that_of_all_pools(run, budget_usd):
    job = run(tasks=(100_000, 100_000), budget_usd=budget_usd)
    job.play(steps=3000)
    job.check()
    assert sum(one.cost_usd(0.0) for one in records.all_machines(job.database)) <= budget_usd + 1e-9
    assert all(0 < world.done < world.tasks for world in job.worlds)


def test_a_budget_for_one_machine_is_not_divided_into_shares_that_are_of_no_use(run):
    usd = GPU.usd_per_hour * MIN_LIFETIME_SECONDS / 3600
    job = run(tasks=(5, 5), budget_usd=1.1 * usd, offers=((GPU,), (GPU,)))
    job.play(steps=500)
    job.check()
    assert sum(job.done()) >= 5


def test_machines_of_no_launch_request_are_terminated_by_any_pool_that_lists_them(run):
    job = run()
    job.new_controller()
    for _ in range(3):
        job.step()
        job.wait()
    [lost, *_] = job.worlds[1].alive()
    job.database.execute("DELETE FROM machine WHERE order_token = ?", (lost.order.token,))
    for world in job.worlds:
        world.ended_in_vain = -10
    job.play()
    assert lost.reason == "terminated"
    assert [text for _, text in job.said if f"Unexpected machine {lost.instance_id}" in text]
