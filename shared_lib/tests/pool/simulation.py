"""A simulated cloud with simulated workers and its own clock, under the real plan, the real controller and a real ledger.

Everything that happens is drawn from a seed. ``Cloud`` is what a provider knows; the controller sees it only through the verbs of
``Machines``, which fail, lie by omission and lose answers as real ones do.
"""

import math
import random
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from taskfleet.errors import UnreachableError
from taskfleet.machine_terms import Market
from taskfleet.machines import (
    EndReason,
    FailureReason,
    LaunchedMachine,
    LaunchFailure,
    LaunchResult,
    Machine,
    MachineState,
)
from taskfleet.machines.choosing import Offer

HEARTBEAT_SECONDS = 60.0
LEASE_SECONDS = 30.0
#: A running controller knows after this time that a machine is ready.
TOLD_SECONDS = 60.0

#: Why a machine ended whose worker found no tasks, and said so.
RAN_DRY = "its worker ended"


class ControllerDied(BaseException):
    """The process of the controller was killed here."""


@dataclass(frozen=True, kw_only=True)
class Weather:
    """The rates of failures of the cloud."""

    stock_out: float = 0.0
    """Share of offers that are out of stock at any time."""
    quota: int | None = None
    throttling: float = 0.0
    lost_answers: float = 0.0
    """Share of calls that are lost, or whose responses are."""
    list_delay_seconds: float = 0.0
    """The maximum time for which new machines are missing in the list."""
    boot_seconds: tuple[float, float] = (30.0, 90.0)
    broken_boots: float = 0.0
    slow_boots: float = 0.0
    preemption_seconds: float = math.inf
    """Mean time until a spot machine is preempted."""
    silence_seconds: float = math.inf
    """Mean time until a machine's worker dies while the machine runs on."""
    deaths: float = 0.0
    """Share of the controller's calls and transactions at which it is killed."""
    longest_absence_seconds: float = 600.0
    """The maximum time without a controller after that."""
    never_boots: bool = False
    deaf_to_endings: float = 0.0
    """Share of machines that ignore the first termination."""
    chooses: bool = False
    """Whether the cloud chooses among the offers, and names machines itself."""
    queue_seconds: tuple[float, float] | None = None
    """The range of times for which accepted machines are queued at no cost, in any order; None if they are never queued."""
    days_in_queue: float = 0.0
    """Share of them that are queued for one to three days."""
    cancelled_in_queue: float = 0.0
    """Share of them that the cloud removes from the queue before they run."""
    state_lag_seconds: float = 0.0
    """The maximum time for which the list shows a running machine as queued."""


@dataclass
class Instance:
    """The actual state of a machine."""

    instance_id: str
    offer: Offer
    order: object
    created_at: float
    """The time at which the cloud accepted it."""
    running_at: float
    """The time at which it starts to run and to cost money."""
    cancelled_at: float
    """The time at which the cloud removes it from the queue, unless it runs by then."""
    visible_at: float
    ready_at: float
    silent_at: float
    preempted_at: float
    ended_at: float | None = None
    reason: str = ""
    ending_at: float | None = None
    heard_at: float = 0.0
    done: int = 0
    idle_since: float = math.inf
    running: list = field(default_factory=list)
    """The times at which its tasks are done."""

    def waits(self, now):
        """Return whether it is queued."""
        return self.ended_at is None and now < self.running_at

    def cost_usd(self, now):
        until = self.ended_at if self.ended_at is not None else now
        return self.offer.usd_per_hour * max(0.0, until - self.running_at) / 3600


class World:
    """The clock, the tasks and the machines."""

    prefix = "i"
    """Of the names that a cloud gives to machines."""

    def __init__(self, chance, weather, *, tasks, task_seconds, idle_seconds=math.inf):
        """``tasks`` is a number, or the numbers of layers, each of which waits for the one before; an idle worker ends its machine."""
        self.chance = chance
        self.weather = weather
        self.now = 1_000_000.0
        self.instances = {}
        self.answers = {}
        layers = [tasks] if isinstance(tasks, int) else list(tasks)
        self.waiting = layers[0]
        self._layers = layers
        self._idle_seconds = idle_seconds
        self.coming_back = []
        """(time, number) of the tasks of machines that died."""
        self.done = 0
        self.tasks = sum(layers)
        self.task_seconds = task_seconds
        self.refused_twice = 0
        self.most_at_once = self.most_slots_at_once = 0
        self.calls = Counter()
        self._told = {}
        self.is_over = False
        self.ended_in_vain = 0
        """Productive machines that were terminated while tasks were left."""
        self.cancelled_in_vain = 0
        """Queued machines that were terminated while tasks were left."""
        self.database = None

    def alive(self):
        return [one for one in self.instances.values() if one.ended_at is None]

    def running(self):
        return [one for one in self.alive() if one.ready_at <= self.now < one.silent_at]

    def advance(self, seconds):
        """Advance the clock in small steps."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + min(15.0, self.task_seconds))
            self._tick()

    def _tick(self):
        now = self.now
        for one in self.alive():
            due = [
                (one.running_at + one.order.lifetime_seconds, "its lifetime is over"),
                (one.cancelled_at, "cancelled"),
                (one.preempted_at, "preempted"),
                (math.inf if one.ending_at is None else one.ending_at, "terminated"),
            ]
            at, reason = min(due)
            if at <= now:
                self._end(one, at, reason)
        back = [n for at, n in self.coming_back if at <= now]
        self.coming_back = [(at, n) for at, n in self.coming_back if at > now]
        self.waiting += sum(back)
        for one in self.alive():
            if one.ready_at <= now < one.silent_at:
                self._work(one)
            elif now >= one.silent_at and one.running:
                self._lose(one)
        self._release()

    def _work(self, one):
        now = self.now
        ended = sum(at <= now for at in one.running)
        self.done += ended
        one.done += ended
        one.running = [at for at in one.running if at > now]
        while self.waiting and len(one.running) < one.offer.slots:
            self.waiting -= 1
            one.running.append(now + self.task_seconds * self.chance.uniform(0.5, 1.5))
        if now - one.heard_at >= HEARTBEAT_SECONDS or not one.heard_at:
            one.heard_at = now
        if one.running:
            one.idle_since = math.inf
        else:
            one.idle_since = min(one.idle_since, now)
            if now - one.idle_since >= self._idle_seconds:
                self._end(one, now, RAN_DRY)

    def _lose(self, one):
        self.coming_back.append((self.now + LEASE_SECONDS, len(one.running)))
        one.running = []

    def _end(self, one, at, reason):
        if one.running:
            self._lose(one)
        one.ended_at, one.reason = at, reason

    def _release(self):
        """Let the next layer run once all tasks before it are done."""
        if len(self._layers) > 1 and self.done == self._layers[0]:
            self.waiting += self._layers[1]
            self._layers[:2] = [self._layers[0] + self._layers[1]]

    # --- as ``JobState`` ---

    def tasks_left(self):
        return self.tasks - self.done

    def tasks_runnable(self):
        return self._layers[0] - self.done

    def record_events(self):
        """Record the events of workers so far in the ledger."""
        self._told = {one.instance_id: (one.heard_at, one.done) for one in self.instances.values() if one.heard_at}

    def last_heartbeats(self):
        return {token: self._told[one.instance_id][0] for token, one in self._known() if one.instance_id in self._told}

    def productive_machines(self):
        return {
            token: self._told[one.instance_id][0]
            for token, one in self._known()
            if one.instance_id in self._told and (self._told[one.instance_id][1] or one.reason == RAN_DRY)
        }

    def _known(self):
        for token, instance_id in self.database.rows(
            "SELECT token, instance_id FROM machine WHERE instance_id IS NOT NULL"
        ):
            yield token, self.instances[instance_id]


class Cloud:
    """The cloud as the controller sees it: an implementation of ``Machines``."""

    name = "simulated"

    def __init__(self, world):
        self._world = world
        self._dry = {}
        self._deaf = set()

    def preflight(self):
        return ()

    def launch(self, order):
        world = self._world
        self._falter("launch")
        if order.token not in world.answers:
            world.answers[order.token] = self._launch(order)
        world.most_at_once = max(world.most_at_once, len(world.alive()))
        world.most_slots_at_once = max(world.most_slots_at_once, sum(one.offer.slots for one in world.alive()))
        self._falter("launched")
        return world.answers[order.token]

    def _launch(self, order):
        world, weather = self._world, self._world.weather
        started, refused = [], {}
        for index, token in enumerate(order.tokens):
            offers = list(order.offers) if weather.chooses else [order.offers[0]]
            if order.offers[0].is_single:  # a computer for each machine
                offers = [order.offers[index]]
            world.chance.shuffle(offers)
            for offer in offers:
                refusal = self._refusal(offer)
                if refusal is None:
                    one = self._create(order, offer, token)
                    is_queued = one.waits(world.now)
                    started.append(LaunchedMachine(one.instance_id, offer.instance_type, offer.zone, is_queued))
                    break
                refused[offer.instance_type, offer.zone] = refusal
        if len(started) == order.number:
            refused = {}
        return LaunchResult(
            tuple(started),
            tuple(LaunchFailure(name, zone, refusal, "No.") for (name, zone), refusal in refused.items()),
        )

    def _refusal(self, offer):
        world, weather = self._world, self._world.weather
        if offer.is_single and any(one.offer.kind == offer.kind for one in world.alive()):
            world.refused_twice += 1
            return FailureReason.STOCK_OUT
        if world.chance.random() < weather.throttling:
            return FailureReason.THROTTLED
        if self._is_dry(offer):
            return FailureReason.STOCK_OUT
        if weather.quota is not None and len(world.alive()) >= weather.quota:
            return FailureReason.QUOTA
        return None

    def _create(self, order, offer, token):
        world, weather, chance = self._world, self._world.weather, self._world.chance
        boot = chance.uniform(*weather.boot_seconds)
        if weather.never_boots or chance.random() < weather.broken_boots:
            boot = math.inf
        elif chance.random() < weather.slow_boots:
            boot = 1000.0
        running_at, cancelled_at = self._wait()
        ready_at = running_at + boot
        preempted = weather.preemption_seconds * chance.expovariate(1.0) if offer.market is Market.SPOT else math.inf
        one = Instance(
            instance_id=f"{world.prefix}-{len(world.instances)}" if weather.chooses else token,
            offer=offer,
            order=order,
            created_at=world.now,
            running_at=running_at,
            cancelled_at=cancelled_at,
            visible_at=world.now + chance.uniform(0, weather.list_delay_seconds),
            ready_at=ready_at,
            silent_at=ready_at + weather.silence_seconds * chance.expovariate(1.0),
            preempted_at=running_at + preempted,
        )
        world.instances[one.instance_id] = one
        return one

    def _wait(self):
        """Draw the time at which a machine that is accepted now starts to run, and at which it is cancelled before."""
        now, weather, chance = self._world.now, self._world.weather, self._world.chance
        if weather.queue_seconds is None:
            return now, math.inf
        days = chance.random() < weather.days_in_queue
        wait = chance.uniform(86_400.0, 3 * 86_400.0) if days else chance.uniform(*weather.queue_seconds)
        is_cancelled = chance.random() < weather.cancelled_in_queue
        return now + wait, now + wait * chance.random() if is_cancelled else math.inf

    def _is_dry(self, offer):
        """Return whether an offer is out of stock in the current quarter of an hour."""
        world = self._world
        quarter = int(world.now // 900)
        key = offer.instance_type, offer.zone, offer.market, quarter
        if key not in self._dry:
            self._dry[key] = world.chance.random() < world.weather.stock_out
        return self._dry[key]

    def list(self):
        self._falter("list")
        world = self._world
        return [
            Machine(
                instance_id=one.instance_id,
                request_token=one.order.token,
                state=self._state(one),
                zone=one.offer.zone,
                instance_type=one.offer.instance_type,
                market=one.offer.market,
                created_at=one.created_at,
                running_since=self._running_since(one),
                end_reason=EndReason.PREEMPTED if one.reason == "preempted" else None,
                detail="Priority" if one.waits(world.now) else one.reason,
            )
            for one in world.instances.values()
            if one.visible_at <= world.now and (one.ended_at is None or world.now - one.ended_at < 600)
        ]

    def _running_since(self, one):
        world = self._world
        has_run = one.running_at <= (world.now if one.ended_at is None else one.ended_at)
        return one.running_at if world.weather.queue_seconds is not None and has_run else None

    def _state(self, one):
        world = self._world
        if one.ended_at is not None:
            return MachineState.ENDED
        if one.ending_at is not None:
            return MachineState.ENDING
        lag = world.chance.uniform(0, world.weather.state_lag_seconds) if world.weather.state_lag_seconds else 0.0
        return MachineState.QUEUED if one.waits(world.now - lag) else MachineState.RUNNING

    def terminate(self, instance_ids):
        self._falter("terminate")
        world = self._world
        for instance_id in instance_ids:
            one = world.instances[instance_id]
            if (
                one.ready_at + TOLD_SECONDS < world.now < one.silent_at
                and one.ending_at is None
                and world.tasks_left()
                and not world.is_over
            ):
                world.ended_in_vain += 1
            if one.waits(world.now) and one.ending_at is None and world.tasks_left() and not world.is_over:
                world.cancelled_in_vain += 1
            if one.ended_at is None and one.ending_at is None and not self._is_deaf(instance_id):
                one.ending_at = world.now + world.chance.uniform(1, 40)
        self._falter("terminated")

    def _is_deaf(self, instance_id):
        """Return whether a machine ignores this termination; it obeys the next one."""
        if instance_id in self._deaf or self._world.chance.random() >= self._world.weather.deaf_to_endings:
            return False
        self._deaf.add(instance_id)
        return True

    def console(self, instance_id):
        return ""

    def clear(self):
        return {}

    def _falter(self, call):
        world = self._world
        world.calls[call] += 1
        if world.chance.random() < world.weather.lost_answers:
            raise UnreachableError("The cloud does not answer.")
        if world.chance.random() < world.weather.deaths:
            raise ControllerDied


class MortalLedger:
    """A ledger at whose transactions the controller may die: before, within and after."""

    def __init__(self, database, world):
        self._database, self._world = database, world

    def __getattr__(self, name):
        return getattr(self._database, name)

    @contextmanager
    def transaction(self):
        self._perhaps_die()
        with self._database.transaction():
            yield
            self._perhaps_die()  # the transaction is rolled back
        self._perhaps_die()

    def _perhaps_die(self):
        if self._world.chance.random() < self._world.weather.deaths:
            raise ControllerDied


def draw_weather(chance):
    """Draw the rates of failures."""
    few = chance.choice([0.0, 0.0, 0.02, 0.1])
    return Weather(
        stock_out=chance.choice([0.0, 0.0, 0.3, 0.8]),
        quota=chance.choice([None, None, 2, 5]),
        throttling=chance.choice([0.0, 0.0, 0.2]),
        lost_answers=chance.choice([0.0, 0.0, 0.05, 0.2]),
        list_delay_seconds=chance.choice([0.0, 30.0, 90.0]),
        boot_seconds=chance.choice([(20.0, 40.0), (60.0, 240.0)]),
        broken_boots=few,
        slow_boots=chance.choice([0.0, 0.0, 0.1]),
        preemption_seconds=chance.choice([math.inf, 7200.0, 1200.0]),
        silence_seconds=chance.choice([math.inf, 20_000.0, 3000.0]),
        deaf_to_endings=chance.choice([0.0, 0.0, 0.3]),
        deaths=chance.choice([0.0, 0.0, 0.01, 0.05]),
        chooses=chance.random() < 0.5,
        longest_absence_seconds=chance.choice([60.0, 600.0, 4000.0]),
    )


def draw_queue(chance):
    """Draw the rates of failures of a cloud with a queue: of hours, of the minutes that a new node takes, or without waiting."""
    return replace(
        draw_weather(chance),
        queue_seconds=chance.choice([(0.0, 6 * 3600.0), (240.0, 360.0), (0.0, 900.0)]),
        days_in_queue=chance.choice([0.0, 0.0, 0.05]),
        cancelled_in_queue=chance.choice([0.0, 0.0, 0.1, 0.5]),
        state_lag_seconds=chance.choice([0.0, 60.0]),
    )


def draw_offers(chance):
    """Draw the offers, the best first."""
    found = []
    for index in range(chance.choice([1, 4, 10])):
        slots = chance.choice([1, 4, 16])
        usd = slots * chance.uniform(0.01, 0.05)
        market = chance.choice(list(Market))
        zone = f"east-{'abc'[index % 3]}"
        found.append(
            Offer(
                instance_type=f"t{index}",
                zone=zone,
                market=market,
                usd_per_slot_hour=usd / slots,
                usd_per_hour=usd,
                machine_usd_per_hour=usd,
                slots=slots,
                boot_disk_type="plain",
                boot_disk_gib=10.0,
                cpus=slots,
                memory_gib=4.0 * slots,
            )
        )
    return sorted(found, key=lambda one: one.rank_key)


def draw(seed, draw_weather=draw_weather):
    """Draw a run: its random numbers, weather and offers."""
    chance = random.Random(seed)
    return chance, draw_weather(chance), draw_offers(chance)
