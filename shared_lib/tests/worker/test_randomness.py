"""State that tasks would share because their processes are copies: random generators, open files, connections."""

import pytest

HOLDERS = '''
import dataclasses, functools, random, threading, uuid
import numpy
import other

numpy.random.seed(1)
random.seed(1)
uuid.uuid1()

generator = numpy.random.default_rng(1)
legacy = numpy.random.RandomState(1)
legacy_of_another = numpy.random.RandomState(numpy.random.PCG64(1))
legacy_of_another.normal()
legacy_pair = numpy.random.RandomState(1)
legacy_pair.normal()
standard = random.Random(1)
standard_pair = random.Random(1)
standard_pair.gauss()
bits = [kind(1) for kind in (numpy.random.MT19937, numpy.random.PCG64, numpy.random.PCG64DXSM, numpy.random.Philox, numpy.random.SFC64)]
in_containers = {"a": [(numpy.random.default_rng(1),)]}
parent = numpy.random.default_rng(1)


class Mine(random.Random):
    """A class of the user's."""


mine = Mine(1)


class Model:
    """Like an estimator, or a distribution of scipy."""

    shared = numpy.random.default_rng(1)
    __slots__ = ("random_state",)

    def __init__(self):
        self.random_state = numpy.random.RandomState(1)

    def __getattr__(self, name):
        raise SystemExit("nothing of the user's is called")

    @property
    def lazy(self):
        raise SystemExit("nothing of the user's is called")


class Proxy:
    @property
    def __class__(self):
        raise SystemExit("nothing of the user's is called")


class Meta(type):
    __hash__ = None

    def __instancecheck__(cls, one):
        raise SystemExit("nothing of the user's is called")

    __subclasscheck__ = __instancecheck__

    def __eq__(cls, one):
        raise SystemExit("nothing of the user's is called")


class Strange(metaclass=Meta):
    pass


model, proxy, strange = Model(), Proxy(), Strange()


@dataclasses.dataclass(frozen=True)
class Options:
    rng: numpy.random.Generator = dataclasses.field(default_factory=lambda: numpy.random.default_rng(1))


options = Options()


def closure():
    hidden = numpy.random.default_rng(1)
    return lambda: hidden.random()


def with_default(rng=numpy.random.default_rng(1), *, keyword=random.Random(1)):
    return rng.random() + keyword.random()


def numbers():
    hidden = random.Random(1)
    while True:
        yield hidden.random()


drawn = numbers()
next(drawn)
local = threading.local()
local.rng = random.Random(1)
enclosed = closure()
partial = functools.partial(lambda rng: rng.random(), random.Random(1))
bound = random.Random(1).random

WAYS = {
    "global of random": random.random,
    "global of numpy": numpy.random.random,
    "fresh": lambda: numpy.random.default_rng().random(),
    "generator": generator.random,
    "legacy": legacy.random_sample,
    "legacy of another": legacy_of_another.random_sample,
    "kept deviate of another": legacy_of_another.normal,
    "kept deviate": legacy_pair.normal,
    "standard": standard.random,
    "standard kept deviate": standard_pair.gauss,
    **{type(one).__name__: functools.partial(one.random_raw) for one in bits},
    "container": in_containers["a"][0][0].random,
    "spawned": lambda: parent.spawn(1)[0].random(),
    "subclass": mine.random,
    "class": Model.shared.random,
    "instance": lambda: model.random_state.random_sample(),
    "dataclass": lambda: options.rng.random(),
    "closure": enclosed,
    "default": with_default,
    "iterator": lambda: next(drawn),
    "partial": partial,
    "bound method": bound,
    "another module": lambda: other.draw(),
    "uuid1": lambda: uuid.uuid1().clock_seq,
}


def run_task(): return {name: float(draw()) for name, draw in WAYS.items()}
'''
OTHER = """
import random
class Holder:
    rng = random.Random(1)
def draw(): return Holder.rng.random()
"""


@pytest.mark.every_start_method
def test_every_generator_of_the_users_modules_gives_each_task_numbers_of_its_own(project, per_process):
    (project.folder / "other.py").write_text(OTHER)
    project.write(HOLDERS, TASKS_PER_PROCESS=per_process)
    worker = project.insert([{}] * 6).work()
    results = [project.result(f"t{index}") for index in range(6)]
    repeated = {name for name in results[0] if len({result[name] for result in results}) < 5}  # uuid1's is of 14 bits
    assert repeated == set()
    assert len({number for result in results for number in result.values()}) > 6 * len(results[0]) - 3
    assert "draws the same numbers" not in worker.text


@pytest.mark.every_start_method
def test_generators_that_cannot_be_reached_are_named_once(project):
    project.write(
        """
        import random
        import numpy
        class Own(random.Random):
            def random(self): return 0.5
        class Bits(numpy.random.PCG64): pass
        own, bits = Own(), Bits(1)
        fine = random.SystemRandom()
        def run_task(): return own.random()
        """
    )
    worker = project.insert([{}] * 2).work()
    said = "Each task draws the same numbers from generators of task.Bits, task.Own that are created when the module is imported"
    assert worker.text.count(said) == 1
    assert "Create them in the function." in worker.text


def test_more_generators_than_can_be_reseeded_are_reported(project):
    project.write(
        """
        import random
        many = [random.Random(n) for n in range(6)]
        def run_task(): return None
        """
    )
    limit = "import taskfleet.worker.randomness as randomness\nrandomness.MAX_GENERATORS = 5"
    (project.folder / "sitecustomize.py").write_text(limit)
    worker = project.insert([{}]).work(environment={"PYTHONPATH": str(project.folder)})
    assert "The module creates more than 5 random generators when it is imported" in worker.text


OPENS = """
    import os, select, socket, tempfile
    import numpy
    data = open("data.txt")
    scratch = tempfile.TemporaryFile()
    log = open("log.txt", "a")
    numpy.arange(9).tofile("array.bin")
    array = numpy.memmap("array.bin", mode="r")
    with open("closed.txt", "w") as closed: pass
    pipe = os.pipe()
    pair = socket.socketpair()
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    loop = select.epoll()
    note(f"port {server.getsockname()[1]}")
    def run_task(): return data.read()
"""


def test_what_the_import_leaves_open_is_named_with_a_remedy(project):
    (project.folder / "data.txt").write_text("x")
    worker = project.write(OPENS).insert([{}]).work()
    port = project.noted_number("port")
    (line,) = [line for line in worker.text.splitlines() if "leaves open" in line]
    assert "The import of task leaves open: data.txt, a temporary file, " in line
    assert f"a connection to 127.0.0.1, port {port}, an event loop. All tasks share this" in line
    assert "or set START_METHOD=spawn." in line
    for harmless in ("log.txt", "array.bin", "closed.txt", "pipe", "socket"):
        assert harmless not in line


@pytest.mark.slow
def test_what_the_import_opens_is_not_shared_with_spawn(project):
    (project.folder / "data.txt").write_text("x")
    worker = project.write(OPENS, START_METHOD="spawn").insert([{}] * 3).work()
    assert [project.result(f"t{index}") for index in range(3)] == ["x"] * 3
    assert "leaves open" not in worker.text
