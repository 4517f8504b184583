"""The rows of ``graph.py``: each function makes its graph of n tasks or calls in a folder, and returns the figures of the row."""

import itertools
import os
import resource
import statistics
import sys
import time
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
    began = time.perf_counter()
    with it:
        last = total(nothing.map(nothing.map(range(n))))
    seconds = time.perf_counter() - began
    assert it.added == 2 * n + 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    again, (nothing, _, total) = entered(place)
    began = time.perf_counter()
    with again:
        total(nothing.map(nothing.map(range(n))))
    seconds_again = time.perf_counter() - began
    assert again.added == 0
    job = Job.open(ours.JOB, project=place)
    return [seconds, peak, seconds_again, 1000 * best(job.status), 1000 * best(lambda: job.explain(last.id))]


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
    seconds = 0.0
    while leases := leasing.lease(database, worker, 1000, skip=0, lease_seconds=1e9, now=1.0):
        finished = [Finished(one.seq, one.attempt, Outcome.SUCCEEDED, 0.0, 0.1, "1") for one in leases]
        began = time.process_time()
        leasing.finish(database, worker, finished, policy=POLICY, now=2.0)
        seconds += time.process_time() - began
    assert outcomes.count_ended(database, 1, 2 * n + 2) == 2 * n + 2
    return [n / seconds, 3 * n / seconds]


def failure(n, folder):
    it, (nothing, of_three, _) = entered(project(folder))
    with it:
        first = nothing(-1)
        of_three.map(range(n), first, 0)
    database = it.database
    worker = register(database)
    [lease] = leasing.lease(database, worker, 1, skip=0, lease_seconds=1e9, now=1.0)
    failed = Finished(lease.seq, lease.attempt, Outcome.EXCEPTION, 0.0, 0.1, error="ValueError: no")
    longest = 0.0
    began = time.perf_counter()
    leasing.finish(database, worker, [failed], policy=POLICY, now=2.0)
    is_left = True
    while is_left:
        step = time.perf_counter()
        is_left = frontier.carry(database, 1.5, clock=itertools.count().__next__)  # one transaction
        longest = max(longest, time.perf_counter() - step)
    seconds = time.perf_counter() - began
    assert outcomes.count_ended(database, first.seq, first.seq + n) == n + 1
    return [seconds, 1000 * longest]


def two_layers(n, folder, tasks_per_process):
    place = project(folder)
    it, (nothing, _, _) = entered(place)
    with it:
        nothing.map(nothing.map(range(n // 2)))
    return [n / ours.drain(place, n, tasks_per_process=tasks_per_process)]


def kept(n, folder):
    return two_layers(n, folder, 0)


def fresh(n, folder):
    return two_layers(n, folder, 1)


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
    """Beside it, the same array written into a file and read again by this process."""
    import numpy
    from taskfleet.graph import app

    place = project(folder)
    (place / "config" / "task.env").open("a").write("TASKS_PER_PROCESS=0\n")
    it, _ = entered(place)
    import task

    with it:
        app(task.size)(app(task.array)(megabytes))
    began = time.perf_counter()
    numpy.save(folder / "array.npy", numpy.ones(megabytes * 125_000))
    numpy.load(folder / "array.npy").sum()
    plain = time.perf_counter() - began
    seconds = ours.drain(place, 2)
    return [seconds, seconds / plain]


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
