"""What happens in a run: a pure function of its seed, and printable.

The seed fixes the tables, the settings, what is done and what goes wrong and when, in terms of how many tasks have begun. It does not fix
how the system schedules the processes meanwhile, so a rare failure may need a few repetitions.
"""

import random
from dataclasses import dataclass, replace

from tests.chaos.work import TOO_LONG_SECONDS

#: Levels of a worker's tree of processes.
#: The number of the first call of a graph; those of tables are lower.
FIRST_OF_GRAPH = 1000
LEVELS = ("supervisor", "warm", "slot", "runner", "child")


@dataclass(frozen=True)
class Row:
    """One task."""

    n: int
    kind: str
    seconds: float


@dataclass(frozen=True)
class Table:
    """One table to insert."""

    rows: tuple[Row, ...]
    has_ids: bool


@dataclass(frozen=True)
class Block:
    """Calls of one map in a graph; a number names an earlier block."""

    rows: tuple[Row, ...]
    one_of: int | None = None
    """Each call has the result of one call of that block, in their order; the blocks are equally long."""
    all_of: int | None = None
    """Each call has the results of all calls of that block."""
    good_of: int | None = None
    """Each call has the results of those that succeed."""


@dataclass(frozen=True)
class Drive:
    """Run the script that makes the graph; kill it so long after its start, if at all."""

    killed_after_seconds: float | None = None


@dataclass(frozen=True)
class Insert:
    """Run ``insert_tasks``; kill it so long after its start, if at all."""

    table: int
    killed_after_seconds: float | None = None


@dataclass(frozen=True)
class Work:
    """Launch a worker with settings of its own."""

    settings: tuple[tuple[str, str], ...] = ()
    in_new_interpreter: bool = False
    """Start it as users do, not by a fork of the harness, which is quicker."""


@dataclass(frozen=True)
class Command:
    """Run another command of the library."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class Kill:
    """Kill with -9 one process of that level, or a whole tree, or an inserter."""

    target: str
    pick: float
    """Which of those that are there, from 0 to 1."""


@dataclass(frozen=True)
class Pause:
    """Stop processes and let them go on."""

    target: str
    pick: float
    seconds: float


@dataclass(frozen=True)
class Signal:
    """Ask a worker to stop."""

    name: str
    times: int
    pick: float


@dataclass(frozen=True)
class Busy:
    """Have another process hold the ledger's lock, and perhaps be killed with it."""

    seconds: float
    is_killed: bool


@dataclass(frozen=True)
class FullDisk:
    """Fill the disk that the job's folder is on."""

    seconds: float


@dataclass(frozen=True)
class Jump:
    """Let the wall clock be off by so much from now on."""

    offset_seconds: float


@dataclass(frozen=True)
class Outage:
    """Have the queue's service not answer for so long, or lose its connections."""

    seconds: float
    pick: int


@dataclass(frozen=True)
class Move:
    """Stop all workers and move the tasks to another place; kill the mover so long after its start, if at all."""

    target: str
    killed_after_seconds: float | None = None


@dataclass(frozen=True)
class Step:
    """Something to do when so many tasks have begun, and then so much later; also when nothing begins any more."""

    begun: int
    delay_seconds: float
    act: object


@dataclass(frozen=True)
class Scenario:
    """One run."""

    seed: int
    settings: tuple[tuple[str, str], ...]
    tables: tuple[Table, ...]
    steps: tuple[Step, ...]
    repeated: tuple[int, ...]
    """Tables to insert again at the end if their insertion was not accepted."""
    patience_seconds: float
    """How long a process waits for the ledger's lock before that is an error."""
    queue: str = "ledger"
    """What the tasks go over."""
    place: str = ""
    """Where they are at first, if they move."""
    graph: tuple[Block, ...] = ()
    """The calls of a script, beside the tables."""
    is_monitored: bool = True
    """Whether a monitor runs while things go wrong, and not only in the end."""

    @property
    def fills_disk(self):
        """Whether it needs a disk of its own."""
        return any(isinstance(step.act, FullDisk) for step in self.steps)

    def text(self):
        """Describe it."""
        settings = " ".join(f"{name}={value}" for name, value in self.settings)
        tables = ", ".join(f"{len(table.rows)} {'with' if table.has_ids else 'without'} ids" for table in self.tables)
        lines = [
            f"queue: {self.place or self.queue}; settings: {settings}",
            f"tables: {tables}; {self.repeated} are inserted again at the end",
        ]
        for index, block in enumerate(self.graph):
            parents = f"one of {block.one_of}, all of {block.all_of}, the good of {block.good_of}"
            lines.append(f"block {index}: {len(block.rows)} calls with {parents}")
        if not self.is_monitored:
            lines.append("no monitor runs before peace")
        lines.append(f"the ledger is waited for {self.patience_seconds:g} s")
        lines += [f"  at {step.begun} begun + {step.delay_seconds:.3f} s: {step.act}" for step in self.steps]
        return "\n".join(lines)


def draw(seed):
    """Draw a run."""
    chance = random.Random(seed)
    limit = chance.choice([None, 0.3])
    settings = _draw_settings(chance, limit)
    tables = _draw_tables(chance, limit)
    total = sum(len(table.rows) for table in tables)
    first_is_killed = chance.random() < 0.15
    steps = [Step(0, 0.0, Insert(0, chance.uniform(0, 0.03) if first_is_killed else None))]
    if first_is_killed:
        steps.append(Step(0, 0.0, Insert(0)))
    steps.append(Step(0, 0.0, _draw_work(chance)))
    rest = [_draw_work(chance) for _ in range(chance.choice([0, 0, 1, 1, 2]))]
    for index in range(1, len(tables)):
        killed = chance.random() < 0.4
        rest.append(Insert(index, chance.uniform(0, 0.03) if killed else None))
        if killed and chance.random() < 0.5:
            rest.append(Insert(index, chance.choice([None, chance.uniform(0, 0.03)])))
    if chance.random() < 0.2:
        rest.append(Insert(0))
    steps += _scatter(chance, rest, total, 0.1)
    # Most runs are about one or two things going wrong, again and again: more is less likely to be survived that far.
    makers = chance.sample(_FAULTS, chance.choice([1, 1, 2, 2, 3, len(_FAULTS)]))
    faults = [chance.choice(makers)(chance) for _ in range(chance.choice([1, 2, 2, 3, 3, 4, 5, 8]))]
    steps += _scatter(chance, faults, total, 0.3)
    steps.sort(key=lambda step: step.begun)
    return Scenario(
        seed=seed,
        settings=settings,
        tables=tables,
        steps=tuple(steps),
        repeated=tuple(index for index in range(len(tables)) if index == 0 or chance.random() < 0.5),
        patience_seconds=chance.choice([60.0, 60.0, 0.2, 0.02]),
    )


def draw_remote(seed, queue):
    """Draw a run over a queue at a service: what may go wrong with the ledger alone, and more."""
    local = draw(seed)
    chance = random.Random(f"{queue} {seed}")
    settings = dict(local.settings)
    for name in ("EVENT_FILE", "SHARED_LEDGER"):
        settings.pop(name, None)
    settings |= {
        "LEASE_SECONDS": "10" if queue == "pubsub" else chance.choice(["4", "6"]),
        "TASKS_PER_MESSAGE": chance.choice(["1", "5", "auto"]),
        "IDLE_SECONDS": "30",
    }
    # gRPC reckons its deadlines from Python's clock and keeps them by the system's, so the clock that jumps would break gRPC itself.
    steps = [step for step in local.steps if not (queue == "pubsub" and isinstance(step.act, Jump))]
    faults = [chance.choice(_REMOTE_FAULTS)(chance) for _ in range(chance.choice([0, 1, 2, 3]))]
    steps += _scatter(chance, faults, sum(len(table.rows) for table in local.tables), 0.5)
    steps.sort(key=lambda step: step.begun)
    return replace(local, settings=tuple(settings.items()), steps=tuple(steps), queue=queue)


def draw_moves(seed, places):
    """Draw a run in which the tasks move between the ledger and the services."""
    chance = random.Random(f"moves {seed}")
    place = chance.choice(places)
    remote = draw_remote(seed, "pubsub")  # whose limits suit all
    moves = [
        Move(chance.choice(places), round(chance.uniform(0, 1.5), 3) if chance.random() < 0.4 else None)
        for _ in range(chance.choice([1, 1, 2, 3]))
    ]
    steps = [*remote.steps, *_scatter(chance, moves, sum(len(table.rows) for table in remote.tables), 0.5)]
    steps.sort(key=lambda step: step.begun)
    return replace(remote, steps=tuple(steps), queue="moves", place=place)


def add_graph(scenario):
    """Give a run a graph beside a single small table."""
    chance = random.Random(f"graph {scenario.seed}")
    limit = dict(scenario.settings).get("MAX_RUNTIME_SECONDS")
    table = Table(scenario.tables[0].rows[:5], scenario.tables[0].has_ids)
    graph = _draw_graph(chance, limit)
    of_chains = random.Random(f"chains {scenario.seed}")
    is_chain = scenario.queue != "ledger" and of_chains.random() < 0.5
    if is_chain:
        graph = _draw_chain(of_chains)
    drives = [Drive(round(chance.uniform(0, 0.3), 3)) for _ in range(chance.choice([0, 0, 1, 2]))]
    steps = [
        step
        for step in scenario.steps
        if not isinstance(step.act, Insert) or (step.act.table == 0 and step.act.killed_after_seconds is None)
    ]
    first = next(index for index, step in enumerate(steps) if isinstance(step.act, Insert))
    steps[first + 1 : first + 1] = [Step(0, 0.0, one) for one in [*drives, Drive()]]
    total = sum(len(block.rows) for block in graph)
    steps += _scatter(
        chance, [chance.choice(_GRAPH_FAULTS)(chance) for _ in range(chance.choice([0, 1, 2]))], total, 0.5
    )
    steps.sort(key=lambda step: step.begun)
    is_monitored = not is_chain or of_chains.random() < 0.3
    return replace(scenario, tables=(table,), steps=tuple(steps), repeated=(0,), graph=graph, is_monitored=is_monitored)


def _draw_chain(chance):
    """Maps over maps, which workers go on with by themselves."""
    kinds = ["quick"] * 12 + ["sleep"] * 2 + ["aware", "big", "flaky", "again", "retry", "exit"]
    width, blocks = chance.choice([1, 3, 8]), []
    for index in range(chance.choice([3, 5])):
        rows = [_draw_row(chance, FIRST_OF_GRAPH + index * width + n, kinds) for n in range(width)]
        blocks.append(Block(tuple(rows), one_of=index - 1 if index else None))
    return tuple(blocks)


def _draw_graph(chance, limit):
    kinds = ["quick"] * 20 + ["sleep"] * 3 + ["aware", "print", "child", "big", "flaky", "again"]
    bad = ["raise", "fail", "retry", "exit", "leave"]
    blocks = []
    for _ in range(chance.choice([2, 4, 6])):
        given = {}
        earlier = chance.sample(range(len(blocks)), len(blocks))  # a block is the parent of another in one way only
        for name, share in (("one_of", 0.7), ("all_of", 0.2), ("good_of", 0.2)):
            if earlier and chance.random() < share:
                given[name] = earlier.pop()
        length = len(blocks[given["one_of"]].rows) if "one_of" in given else chance.choice([1, 1, 3, 10, 20])
        first = FIRST_OF_GRAPH + sum(len(block.rows) for block in blocks)
        mixed = kinds + (bad if chance.random() < 0.4 else [])
        rows = [_draw_row(chance, first + index, mixed) for index in range(length)]
        if limit and chance.random() < 0.2:
            rows[0] = Row(first, "slow", TOO_LONG_SECONDS)
        blocks.append(Block(tuple(rows), **given))
    return tuple(blocks)


def _scatter(chance, acts, total, longest_delay):
    return [
        Step(
            chance.choice([0, chance.randrange(1, 4), chance.randrange(total), chance.randrange(total)]),
            chance.choice([0.0, chance.uniform(0, 0.02), chance.uniform(0, longest_delay)]),
            act,
        )
        for act in acts
    ]


def _draw_settings(chance, limit):
    settings = {
        "TASKS_PER_PROCESS": chance.choice([0, 1, 1, 3]),
        "SLOTS": chance.choice([1, 2, 3]),
        "LEASE_SECONDS": chance.choice([1, 1, 30]),
        "RETRIES_ON_EXCEPTION": chance.choice([0, 1, 2]),
        "RETRIES_ON_TIMEOUT": chance.choice([0, 1]),
        "RETRIES_ON_EXIT": chance.choice([0, 1, 2]),
        "RETRIES_ON_LOST": chance.choice([0, 1, 5, 5]),
        "RETRIES_ON_REQUEST": chance.choice([0, 1, 3]),
        "RETRY_DELAY_SECONDS": chance.choice([0, 0.01, 0.05]),
        "SHUTDOWN_GRACE_SECONDS": chance.choice([0, 0.1, 0.5]),
        "PROGRESS_SECONDS": chance.choice([0.05, 10]),
        "VERBOSE": chance.choice(["true", "false"]),
    }
    if limit:
        settings["MAX_RUNTIME_SECONDS"] = limit
    if chance.random() < 0.5:
        settings["EVENT_FILE"] = "events.jsonl"
    if chance.random() < 0.2:
        settings["SHARED_LEDGER"] = "true"
    if chance.random() < 0.2:
        settings["MEMORY_LIMIT_GIB"] = 4
    return tuple((name, str(value)) for name, value in settings.items())


def _draw_tables(chance, limit):
    kinds = (
        ["quick"] * 12 + ["sleep"] * 3 + ["aware", "print", "child", "big", "raise", "flaky", "fail", "retry", "again"]
    )
    kinds += ["exit", "leave"]
    rows = [_draw_row(chance, n, kinds) for n in range(chance.choice([10, 30, 60]))]
    if limit:
        for n in chance.sample(range(len(rows)), 2):
            rows[n] = Row(n, "slow", TOO_LONG_SECONDS)
    tables = [Table(tuple(rows), chance.random() < 0.5)]
    for _ in range(chance.choice([0, 0, 1, 2])):
        has_ids = chance.random() < 0.5
        fresh = [_draw_row(chance, len(rows) + n, kinds) for n in range(chance.randrange(1, 25))]
        # Tasks with ids of their own and those without are different tasks, so only tables of one kind can share some.
        known = [row for table in tables if table.has_ids == has_ids for row in table.rows]
        rows += fresh
        shared = chance.sample(known, min(len(known), chance.randrange(8)))
        mixed = fresh + shared
        if not has_ids:
            mixed += chance.sample(mixed, min(len(mixed), chance.randrange(4)))  # equal rows, each a task of its own
        chance.shuffle(mixed)
        tables.append(Table(tuple(dict.fromkeys(mixed)) if has_ids else tuple(mixed), has_ids))
    return tuple(tables)


def _draw_row(chance, n, kinds):
    kind = chance.choice(kinds)
    seconds = {"sleep": chance.uniform(0, 0.15), "aware": 0.2}.get(kind, 0.0)
    return Row(n, kind, round(seconds, 3))


def _draw_work(chance):
    settings = {}
    if chance.random() < 0.4:
        settings["TASKS_PER_PROCESS"] = chance.choice([0, 1, 3])
    if chance.random() < 0.4:
        settings["SLOTS"] = chance.choice([1, 2, 3])
    if chance.random() < 0.1:
        settings["MAX_TASKS"] = chance.randrange(1, 20)
    if chance.random() < 0.1:
        settings["SKIP_TASKS"] = chance.randrange(1, 20)
    if chance.random() < 0.1:
        settings["KEEP_WAITING"] = "true"
    if chance.random() < 0.1:
        settings["SIMULATE_SPOT_TERMINATION_AFTER_SECONDS"] = round(chance.uniform(0.1, 0.6), 2)
        settings["SIMULATE_SPOT_TERMINATION_DELAY_SECONDS"] = chance.choice([0, 0.1])
    return Work(tuple((name, str(value)) for name, value in settings.items()), chance.random() < 0.1)


def _target(chance):
    return chance.choice([*LEVELS, "slot", "runner", "tree", "inserter"])


def _pause_seconds(chance):
    return round(chance.choice([chance.uniform(0, 0.1), chance.uniform(0, 0.1), 0.5, chance.uniform(1.0, 1.6)]), 3)


#: Each makes a fault.
_FAULTS = [
    lambda chance: Kill(_target(chance), chance.random()),
    lambda chance: Kill(_target(chance), chance.random()),
    lambda chance: Kill(_target(chance), chance.random()),
    lambda chance: Pause(_target(chance), chance.random(), _pause_seconds(chance)),
    lambda chance: Pause(_target(chance), chance.random(), _pause_seconds(chance)),
    lambda chance: Signal(chance.choice(["SIGINT", "SIGTERM", "SIGHUP"]), chance.choice([1, 1, 2]), chance.random()),
    lambda chance: Busy(round(chance.choice([chance.uniform(0, 0.1), 0.4, 1.4]), 3), chance.random() < 0.3),
    lambda chance: FullDisk(round(chance.choice([chance.uniform(0, 0.1), 0.5, 1.2]), 3)),
    lambda chance: Jump(chance.choice([-86400.0, -3600.0, -5.0, -0.5, 0.5, 5.0, 400.0, 3600.0, 86400.0])),
    lambda chance: Command(
        chance.choice(
            [
                ("release",),
                ("release",),
                ("retry", "--failed"),
                ("retry", "--failed", "--killed"),
                ("purge_queue", "--yes"),
                ("status", "--json"),
            ]
        )
    ),
]

#: Each makes a fault that concerns graphs.
_GRAPH_FAULTS = [
    lambda chance: Drive(),
    lambda chance: Drive(round(chance.uniform(0, 0.3), 3)),
    lambda chance: Command(("retry", "--failed")),
    lambda chance: Command(("retry", "--failed", "--killed")),
    lambda chance: Command(("purge_queue", "--yes")),
    lambda chance: Kill("tree", chance.random()),
]

#: Each makes a fault of a job whose tasks go over a queue at a service.
_REMOTE_FAULTS = [
    lambda chance: Kill("monitor", chance.random()),
    lambda chance: Pause("monitor", chance.random(), _pause_seconds(chance)),
    lambda chance: Outage(round(chance.choice([chance.uniform(0, 0.5), 1.5, 4.0]), 3), chance.randrange(1000)),
]
