"""Queues at services: ours beside bare SDK calls, task-queue and rms-cloud-tasks, all on the same server in one run.

The server is the stand-in for SQS of the tests (moto, made quick), in a process of its own; what it takes is the limit of all
sides. Requests are counted by it, and shown with what SQS and Pub/Sub charge for them in us-east-1 and the first tier.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import ours
from measure import BENCHMARKS, Claims, python, run, say, temporary_folder

sys.path.append(str(BENCHMARKS.parent))  # where the stand-ins are
from shared_lib.tests.services.pubsub import BILLED as BILLED_BYTES
from shared_lib.tests.services.pubsub import PubSub
from shared_lib.tests.services.sqs import BILLED, Sqs

#: https://aws.amazon.com/sqs/pricing, standard queues; https://cloud.google.com/pubsub/pricing.
USD_PER_MILLION_REQUESTS = 0.40
USD_PER_TIB = 40.0
THREADS = 8


@contextmanager
def project(folder: Path, service: Sqs | PubSub, name: str, tasks_per_message: int | str) -> Iterator[Path]:
    """Make a project whose job travels by the service."""
    os.environ.update(service.environment())
    made = ours.make_project(folder / name)
    url = f"sqs://{name}" if isinstance(service, Sqs) else f"pubsub://{name}"
    with (made / "config" / "task.env").open("a") as file:
        file.write(f"QUEUE_URL={url}\nTASKS_PER_MESSAGE={tasks_per_message}\nIDLE_SECONDS=2\n")
    yield made


def bare(service: Sqs, n: int) -> tuple[float, float]:
    """Give what the server takes of bare SDK calls in full batches: messages sent, and received and deleted, per second."""
    import boto3

    values = service.environment()
    os.environ.update(values)
    client = boto3.client("sqs", endpoint_url=values["AWS_ENDPOINT_URL_SQS"], region_name="us-east-1")
    url = client.create_queue(QueueName="bare")["QueueUrl"]
    entries = [{"Id": str(i), "MessageBody": json.dumps({"number": i}) + " " * 100} for i in range(10)]

    def drain(_: int) -> int:
        done = 0
        while messages := client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            gone = [{"Id": str(i), "ReceiptHandle": one["ReceiptHandle"]} for i, one in enumerate(messages)]
            client.delete_message_batch(QueueUrl=url, Entries=gone)
            done += len(messages)
        return done

    with ThreadPoolExecutor(THREADS) as pool:
        start = time.perf_counter()
        list(pool.map(lambda _: client.send_message_batch(QueueUrl=url, Entries=entries), range(n // 10)))
        sent = time.perf_counter()
        assert sum(pool.map(drain, range(THREADS))) == n
        drained = time.perf_counter()
    return n / (sent - start), n / (drained - sent)


def ours_over(service: Sqs | PubSub, folder: Path, name: str, n: int, tasks_per_message: int | str) -> dict[str, float]:
    """Insert, work off and monitor n tasks that do nothing."""
    with project(folder, service, name, tasks_per_message) as made:
        before = service.requests()
        inserted = ours.insert(made, n)
        worked = run(ours.worker_command(), made)
        monitored = run(ours.command("monitor", "--progress-seconds", 100_000), made)
        with ours.ledger(made) as connection:
            assert ours.succeeded(connection) == n
        requests = service.requests() - before
        billed = BILLED if isinstance(service, Sqs) else BILLED_BYTES
        told = first_and_last(made)
        nothing_new = run(ours.command("insert_tasks"), made)
        return {
            "insert_per_second": n / inserted.seconds,
            "start_seconds": nothing_new.seconds,
            "sent_per_second": n / (inserted.seconds - nothing_new.seconds),
            "per_second": n / told,
            "cpu_us": 1e6 * worked.cpu_seconds / n,
            "monitor_per_second": n / monitored.seconds,
            "requests": sum(count for action, count in requests.items() if not action.startswith("(")),
            "billed": requests[billed],
        }


def first_and_last(made: Path) -> float:
    """Give the seconds from the first start of a task to the last end, by the ledger."""
    with ours.ledger(made) as connection:
        [seconds] = connection.execute(
            "SELECT max(started_at + elapsed_seconds) - min(started_at) FROM attempt"
        ).fetchone()
    return float(seconds)


def task_queue(service: Sqs, folder: Path, n: int) -> dict[str, float]:
    """Have python-task-queue insert and work off n tasks that do nothing, with two processes."""
    os.environ.update(service.environment())
    import boto3

    boto3.client("sqs", endpoint_url=service.environment()["AWS_ENDPOINT_URL_SQS"]).create_queue(QueueName="peer")
    folder.mkdir()
    before = service.requests()
    inserted = run(python(BENCHMARKS / "queues.py", "--peer", "insert", n), folder, **service.environment())
    workers = 2
    worked = run(python(BENCHMARKS / "queues.py", "--peer", "work", workers), folder, **service.environment())
    seconds = float(worked.out.split()[-1])
    requests = service.requests() - before
    return {
        "insert_per_second": n / inserted.seconds,
        "per_second": n / seconds,
        "cpu_us": 1e6 * worked.cpu_seconds / n,
        "requests": sum(count for action, count in requests.items() if not action.startswith("(")),
        "billed": requests[BILLED],
    }


RMS_WORKER = """\
import asyncio
import sys

from cloud_tasks.worker import Worker


def process_task(task_id, task_data, worker_data):
    return False, None


if __name__ == "__main__":
    asyncio.run(Worker(process_task, args=sys.argv[1:]).start())
"""


def rms_cloud_tasks(service: Sqs, folder: Path, n: int) -> dict[str, float]:
    """Have rms-cloud-tasks load n tasks that do nothing, and its worker do two at a time; it starts an interpreter for each."""
    import boto3

    folder.mkdir()
    (folder / "worker.py").write_text(RMS_WORKER)
    values = service.environment()
    os.environ.update(values)
    before = service.requests()
    inserted = run(python(BENCHMARKS / "queues.py", "--peer", "rms", n), folder, **values)
    job = ["--provider", "AWS", "--job-id", "rms"]
    worker = [
        sys.executable,
        "worker.py",
        *job,
        "--num-simultaneous-tasks",
        "2",
        "--no-is-spot",
        "--event-log-to-queue",
    ]
    client = boto3.client("sqs", endpoint_url=values["AWS_ENDPOINT_URL_SQS"], region_name="us-east-1")
    url = client.create_queue(QueueName="rms-events")["QueueUrl"]
    start = time.perf_counter()
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            worker, cwd=folder, env=os.environ | values, stdout=log, stderr=log, start_new_session=True
        )
    try:
        told = ["ApproximateNumberOfMessages"]
        while int(client.get_queue_attributes(QueueUrl=url, AttributeNames=told)["Attributes"][told[0]]) < n:
            if process.poll() is not None or time.perf_counter() - start > 10 + 5 * n:
                raise RuntimeError((folder / "log").read_text()[-2000:])
            time.sleep(0.2)
        seconds = time.perf_counter() - start
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    requests = service.requests() - before
    count = sum(count for action, count in requests.items() if not action.startswith("("))
    return {"insert_per_second": n / inserted.seconds, "per_second": n / seconds, "requests": count}


def _peer(what: str, n: int) -> None:
    """Be a peer's process."""
    if what == "rms":
        asyncio.run(_load_rms(n))
        return
    from functools import partial

    from taskqueue import TaskQueue, queueable

    sys.modules["queues"] = sys.modules["__main__"]
    function = queueable(_peer_noop)
    if what == "insert":
        with TaskQueue("sqs://peer", region_name="us-east-1", progress=False) as queue:
            queue.insert((partial(function, number) for number in range(n)), total=n)
        return
    start = time.perf_counter()
    pids = []
    for _ in range(n):
        pid = os.fork()
        if pid == 0:
            TaskQueue("sqs://peer", region_name="us-east-1", progress=False).poll(lease_seconds=600)
            os._exit(0)
        pids.append(pid)
    import boto3

    client = boto3.client("sqs")
    url = client.get_queue_url(QueueName="peer")["QueueUrl"]
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    while any(map(int, client.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"].values())):
        time.sleep(0.1)
    seconds = time.perf_counter() - start
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    print(seconds)


async def _load_rms(n: int) -> None:
    """Send n tasks as ``cloud_tasks load_queue`` does, 100 at a time; it would delete the queue first, and have to wait for a minute."""
    from cloud_tasks.queue_manager.aws import AWSSQSQueue

    make = {"access_key": os.environ["AWS_ACCESS_KEY_ID"], "secret_key": os.environ["AWS_SECRET_ACCESS_KEY"]}
    queue = AWSSQSQueue(queue_name="rms", region="us-east-1", **make)
    limit = asyncio.Semaphore(100)

    async def send(number: int) -> None:
        async with limit:
            await queue.send_task(f"task-{number}", {"number": number})

    await asyncio.gather(*map(send, range(n)))


def _peer_noop(number: int) -> None:
    del number


def main() -> None:
    """Measure everything, and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--single", type=int, default=10_000, help="messages of one task each")
    parser.add_argument("--many", type=int, default=200_000, help="tasks, many in a message")
    parser.add_argument(
        "--rms", type=int, default=100, help="tasks for rms-cloud-tasks, which takes about a second for each"
    )
    parser.add_argument("--peer", nargs=2, metavar=("WHAT", "N"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        _peer(arguments.peer[0], int(arguments.peer[1]))
        return
    single, many = arguments.single, arguments.many
    claims = Claims(f"Tasks that do nothing over SQS ({single:,} in messages of their own, {many:,} with auto)")
    with temporary_folder() as folder, Sqs() as service:
        say("bare SDK calls")
        plain = [bare(service, single)]
        say("ours, one task a message")
        one = ours_over(service, folder, "single", single, 1)
        say("bare SDK calls again, so that neither side has the quieter moment")
        plain.append(bare(service, single))
        sent, drained = (len(plain) / sum(1 / rate for rate in rates) for rates in zip(*plain, strict=True))
        claims.add("bare SDK calls, full batches: messages sent", f"{sent:,.0f}/s")
        claims.add("bare SDK calls, full batches: received and deleted", f"{drained:,.0f}/s")
        say("ours, auto")
        auto = ours_over(service, folder, "many", many, "auto")
        claims.at_least(
            "ours, one task a message: inserted, the whole command, of bare sends",
            100 * one["insert_per_second"] / sent,
            90,
            "%",
        )
        claims.add(
            f"the same beyond its start, which takes {one['start_seconds']:.2f} s (the command with nothing new)",
            f"{100 * one['sent_per_second'] / sent:.3g} %",
        )
        claims.at_least(
            "ours, one task a message: processed, of bare receives and deletes",
            100 * one["per_second"] / drained,
            90,
            "%",
        )
        claims.add(
            "ours, one task a message", f"{one['insert_per_second']:,.0f} inserted/s, {one['per_second']:,.0f} tasks/s"
        )
        claims.add("ours, auto", f"{auto['insert_per_second']:,.0f} inserted/s, {auto['per_second']:,.0f} tasks/s")
        claims.add("poe monitor", f"{auto['monitor_per_second']:,.0f} tasks/s")
        if find_spec("taskqueue"):
            say("task-queue")
            peer = task_queue(service, folder / "peer", single)
            claims.add("task-queue", f"{peer['insert_per_second']:,.0f} inserted/s, {peer['per_second']:,.0f} tasks/s")
            claims.at_most(
                "processor time per message, of task-queue's", 100 * one["cpu_us"] / peer["cpu_us"], 33.4, "%"
            )
            claims.at_least(
                "tasks per second with auto, times task-queue's", auto["per_second"] / peer["per_second"], 100, "times"
            )
            claims.add("task-queue: requests per 1,000 tasks", f"{1000 * peer['requests'] / single:,.0f}")
        if find_spec("cloud_tasks"):
            say("rms-cloud-tasks")
            peer = rms_cloud_tasks(service, folder / "rms", arguments.rms)
            claims.add(
                "rms-cloud-tasks", f"{peer['insert_per_second']:,.0f} inserted/s, {peer['per_second']:,.2f} tasks/s"
            )
            claims.add(
                "tasks per second with auto, times rms-cloud-tasks'", f"{auto['per_second'] / peer['per_second']:,.0f}"
            )
            claims.add("rms-cloud-tasks: requests per 1,000 tasks", f"{1000 * peer['requests'] / arguments.rms:,.0f}")
        claims.add("ours, one task a message: requests per 1,000 tasks", f"{1000 * one['requests'] / single:,.0f}")
        claims.add("ours, auto: requests per 1,000 tasks", f"{1000 * auto['requests'] / many:.3g}")
        usd = auto["billed"] / many * USD_PER_MILLION_REQUESTS
        claims.at_most("SQS for a million tasks, auto", usd, 0.05, "USD")
        claims.add(
            "SQS for a million tasks, one task a message",
            f"{one['billed'] / single * USD_PER_MILLION_REQUESTS:.3g} USD",
        )
    with temporary_folder() as folder, PubSub() as service:
        say("Pub/Sub")
        found = ours_over(service, folder, "many", many, "auto")
        claims.add(
            "over Pub/Sub, auto", f"{found['insert_per_second']:,.0f} inserted/s, {found['per_second']:,.0f} tasks/s"
        )
        usd = found["billed"] / many * 1e6 / 2**40 * USD_PER_TIB
        claims.at_most("Pub/Sub for a million tasks, auto", usd, 0.05, "USD")
    claims.show()


if __name__ == "__main__":
    main()
