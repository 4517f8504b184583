"""The rows of ``graph.py``: each function makes its graph of n tasks or calls in a folder, and returns the figures of the row."""

import hashlib
import itertools
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import measure
import ours
from taskfleet.ledger import frontier, leasing, outcomes
from taskfleet.tasks import Finished, Outcome, RetryPolicy

sys.path.append(str(Path(__file__).parents[1]))  # where the stand-ins of services are

TASKS = """
import os

def nothing(x): return x
def three(x, y, z): return 0
def total(xs): return 0
def array(n):
    import numpy
    return numpy.ones(n * 125_000)
def size(array): return array.nbytes
"""

POLICY = RetryPolicy(retries={})


def project(folder, name="project"):
    found = ours.make_project(folder / name, task=TASKS)
    sys.path.insert(0, str(found))
    return found


def entered(folder, **settings):
    """Give a flow and the apps of the project, for calls in this process."""
    import task
    from taskfleet.graph import app, flow

    return flow(ours.JOB, project=folder, **settings), [
        app(function) for function in (task.nothing, task.three, task.total)
    ]


def calls(n, folder):
    it, (nothing, _, _) = entered(project(folder))
    with it:
        firsts = list(nothing.map(range(n)))
        began = time.perf_counter()
        for future in firsts:
            nothing(future)
        it.send()
        seconds = time.perf_counter() - began
    assert it.added == 2 * n
    return [n / seconds]


def three(n, folder):
    sizes = []
    for name in ("without", "with"):
        place = project(folder, name)
        it, (nothing, of_three, _) = entered(place)
        with it:
            firsts = list(nothing.map(range(n + 2)))
            began = time.perf_counter()
            for index in range(n):
                a, b, c = firsts[index : index + 3]
                if name == "with":
                    of_three(a, b, c)
                else:  # texts of the same length
                    of_three(*({"xtask": one.id} for one in (a, b, c)))
            it.send()
            seconds = time.perf_counter() - began
        assert it.added == 2 * n + 2
        it.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sizes.append(ours.ledger_mib(place) * (1 << 20))
    return [n / seconds, 3 * n / seconds, (sizes[1] - sizes[0]) / (3 * n)]


def maps(n, folder):
    from taskfleet.api.job import Job

    place = project(folder)
    it, (nothing, _, total) = entered(place)
    began, cpu_began = time.perf_counter(), time.process_time()
    with it:
        last = total(nothing.map(nothing.map(range(n))))
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    assert it.added == 2 * n + 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    again, (nothing, _, total) = entered(place)
    began = time.perf_counter()
    with again:
        total(nothing.map(nothing.map(range(n))))
    seconds_again = time.perf_counter() - began
    assert again.added == 0
    job = Job.open(ours.JOB, project=place)
    times = [1000 * best(job.status), 1000 * best(lambda: job.explain(last.id))]
    return [seconds, cpu_seconds, peak, seconds_again, *times]


def map_bytes(n, folder):
    sizes = []
    for name in ("without", "with"):
        place = project(folder, name)
        it, (nothing, _, total) = entered(place)
        with it:
            first = nothing.map(range(n))
            if name == "with":
                total(nothing.map(first))
            else:  # texts of the same length
                nothing.map([{"xtask": one.id} for one in first])
        it.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sizes.append(ours.ledger_mib(place) * (1 << 20))
    return [(sizes[1] - sizes[0]) / (2 * n)]


def best(call, times=5):
    """Give the median of its seconds."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def register(database):
    return leasing.register(database, hostname="h", process="p", pid=1, slots=1, lease_seconds=1e9, now=0.0)


def release(n, folder):
    it, (nothing, of_three, _) = entered(project(folder))
    with it:
        firsts = list(nothing.map(range(n + 2)))
        for index in range(n):
            of_three(*firsts[index : index + 3])
        it.send()
    database = it.database
    worker = register(database)
    seconds = [0.0, 0.0]  # of the tasks that release others, and of those that have no children
    while leases := leasing.lease(database, worker, 1000, skip=0, lease_seconds=1e9, now=1.0):
        finished = [Finished(one.seq, one.attempt, Outcome.SUCCEEDED, 0.0, 0.1, "1") for one in leases]
        for index, some in enumerate(
            ([one for one in finished if one.seq <= n + 2], [one for one in finished if one.seq > n + 2])
        ):
            began = time.process_time()
            if some:
                leasing.finish(database, worker, some, policy=POLICY, now=2.0)
            seconds[index] += time.process_time() - began
    assert outcomes.count_ended(database, 1, 2 * n + 2) == 2 * n + 2
    return [n / seconds[0], 3 * n / seconds[0], n / sum(seconds), n / seconds[1]]


def failure(n, folder):
    it, (nothing, of_three, _) = entered(project(folder))
    with it:
        first = nothing(-1)
        of_three.map(range(n), first, 0)
    database = it.database
    worker = register(database)
    [lease] = leasing.lease(database, worker, 1, skip=0, lease_seconds=1e9, now=1.0)
    failed = Finished(lease.seq, lease.attempt, Outcome.EXCEPTION, 0.0, 0.1, error="ValueError: no")
    transactions = timed_transactions(database)
    ended = folder / "ended"
    with subprocess.Popen([sys.executable, "-c", RENEWS, database.path, ended], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        began, cpu_began = time.perf_counter(), time.process_time()
        leasing.finish(database, worker, [failed], policy=POLICY, now=2.0)
        frontier.carry(database)
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
        ended.touch()
        waits = [float(line) for line in other.stdout]
    assert outcomes.count_ended(database, first.seq, first.seq + n) == n + 1
    wall, cpu = (1000 * max(times) for times in zip(*transactions, strict=True))
    return [seconds, cpu_seconds, wall, cpu, 1000 * statistics.median(waits), 1000 * max(waits)]


#: Another worker, which renews its lease again and again, and then prints how long each took.
RENEWS = """
import sys, time
from pathlib import Path
from taskfleet.ledger import leasing
from taskfleet.ledger.database import open_ledger
database, ended, waits = open_ledger(Path(sys.argv[1]), job_id="bench"), Path(sys.argv[2]), []
worker = leasing.register(database, hostname="h", process="q", pid=2, slots=1, lease_seconds=1e9, now=0.0)
print("ready", flush=True)
while not ended.exists():
    began = time.perf_counter()
    leasing.renew(database, worker, lease_seconds=1e9, now=1.0)
    waits.append(time.perf_counter() - began)
    time.sleep(0.02)
print(*waits, sep="\\n")
"""


def timed_transactions(database):
    """Have a ledger note how long it holds the lock in each transaction: (seconds, processor time)."""
    times, transaction = [], database.transaction

    @contextmanager
    def timed(**options):
        with transaction(**options) as opened:
            began, cpu_began = time.perf_counter(), time.process_time()
            yield opened
        times.append((time.perf_counter() - began, time.process_time() - cpu_began))

    database.transaction = timed
    return times


def two_layers(n, folder, tasks_per_process):
    place = project(folder)
    it, (nothing, _, _) = entered(place)
    with it:
        nothing.map(nothing.map(range(n // 2)))
    return [n / ours.drain(place, n, tasks_per_process=tasks_per_process)]


def kept(n, folder):
    return two_layers(n, folder, 0)


def fresh(n, folder):
    """Beside it, as many tasks of a table."""
    table = ours.make_project(folder / "table")
    ours.insert(table, n)
    return [*two_layers(n, folder, 1), n / ours.drain(table, n, tasks_per_process=1)]


def chain(n, folder):
    place = project(folder)
    it, (nothing, _, _) = entered(place)
    with it:
        last = nothing(-1)
        for _ in range(n - 1):
            last = nothing(last)
    assert it.added == n
    return [ours.drain(place, n)]


def chain_sqs(n, folder):
    from shared_lib.tests.queues.services.sqs import SqsService

    return _chain_over(SqsService(), n, folder)


def chain_postgresql(n, folder):
    from shared_lib.tests.queues.services.postgresql import PostgresqlService

    return _chain_over(PostgresqlService(), n, folder)


def _chain_over(service, n, folder):
    """Have a worker go on by itself; give the median time between two tasks, in milliseconds."""
    service.start()
    try:
        os.environ.update(service.environment())
        place = project(folder)
        with (place / "config" / "task.env").open("a") as file:
            file.write(f"QUEUE_URL={service.queue_url('bench-chain')}\nIDLE_SECONDS=3\n")
        it, (nothing, _, _) = entered(place)
        with it:
            last = nothing(-1)
            for _ in range(n - 1):
                last = nothing(last)
        measure.run(ours.worker_command("--task-function", "task:nothing"), place)
        measure.run(ours.command("monitor", "--progress-seconds", 100_000), place)
        with ours.ledger(place) as connection:
            assert ours.succeeded(connection) == n
            rows = connection.execute("SELECT started_at, elapsed_seconds FROM attempt ORDER BY started_at").fetchall()
    finally:
        service.stop()
    return [
        1000 * statistics.median(then - began - seconds for (began, seconds), (then, _) in itertools.pairwise(rows))
    ]


def large(megabytes, folder):
    """Beside it, in this process: the array encoded into a store and decoded, and written into a file and read again, in turns."""
    import numpy
    from taskfleet.graph import app
    from taskfleet.references import Store, decode, encode

    place = project(folder)
    (place / "config" / "task.env").open("a").write("TASKS_PER_PROCESS=0\n")
    it, _ = entered(place)
    import task

    with it:
        app(task.size)(app(task.array)(megabytes))
    seconds = ours.drain(place, 2)
    with ours.ledger(place) as connection:
        (n_bytes,) = connection.execute("SELECT max(length(result)) FROM attempt").fetchone()
    value, file = numpy.random.default_rng(1).random(megabytes * 125_000), folder / "array.npy"
    times = {"file": [], "store": []}
    for index in range(11):
        store = Store(folder / str(index))  # a new one, because it keeps a file that it has
        began, cpu_began = time.perf_counter(), time.process_time()
        numpy.save(file, value)
        numpy.load(file).sum()
        times["file"].append((time.perf_counter() - began, time.process_time() - cpu_began))
        file.unlink()
        began, cpu_began = time.perf_counter(), time.process_time()
        decode(encode(value, store), store).sum()
        times["store"].append((time.perf_counter() - began, time.process_time() - cpu_began))
        shutil.rmtree(folder / str(index))
    plain, plain_cpu, wall, cpu = (
        statistics.median(one[index] for one in times[kind]) for kind in times for index in (0, 1)
    )
    began = time.process_time()
    hashlib.sha256(value).hexdigest()
    hashing = time.process_time() - began
    return [seconds, n_bytes, wall / plain, *(1000 * one for one in (plain, plain_cpu, wall, cpu, hashing))]


def _noop(x):
    return x


def parsl(n, folder, executor=None):
    import parsl as library
    from parsl.config import Config
    from parsl.executors import ThreadPoolExecutor

    config = Config(executors=[executor or ThreadPoolExecutor(max_threads=2)], run_dir=str(folder / "runinfo"))
    with library.load(config):
        nothing = library.python_app(_noop)
        nothing(0).result()  # its workers run
        began = time.perf_counter()
        layer = [nothing(index) for index in range(n // 2)]
        for future in [nothing(future) for future in layer]:
            future.result()
        seconds = time.perf_counter() - began
    return [n / seconds]


def parsl_htex(n, folder):
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    os.environ["PATH"] = (
        f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"  # it starts programs of its own by name
    )
    provider = LocalProvider(init_blocks=1, max_blocks=1)
    return parsl(
        n, folder, HighThroughputExecutor(label="htex", max_workers_per_node=2, provider=provider, address="127.0.0.1")
    )


def dask(n, folder):
    from distributed import Client

    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=str(folder)) as client:
        client.submit(_noop, 0).result()
        began = time.perf_counter()
        layer = [client.submit(_noop, index, pure=False) for index in range(n // 2)]
        client.gather([client.submit(_noop, future, pure=False) for future in layer])
        seconds = time.perf_counter() - began
    return [n / seconds]


def dask_delayed(n, _folder):
    import dask as library

    began = time.perf_counter()
    layer = [library.delayed(_noop)(index) for index in range(n // 2)]
    library.compute(*[library.delayed(_noop)(one) for one in layer], scheduler="threads", num_workers=2)
    return [n / (time.perf_counter() - began)]
