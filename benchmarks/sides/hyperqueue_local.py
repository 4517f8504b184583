"""HyperQueue from its Python package: server and one worker with two cores in this process, Python functions as tasks.

Each task is an interpreter of its own with a folder of its own; its result, which HyperQueue does not carry, is printed and kept in a
file. (HyperQueue's own programs as tasks cost far less than an interpreter; its journal is not to be had from Python.) Measured: from
the submission, which is the insertion too, to the last result's file (its client looks once a second only). It listens on every address
and cannot be told otherwise from Python, so the run has a network of its own that is nothing but a loopback.
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys
import time
from importlib.util import find_spec

NAME = "HyperQueue, Python functions"
KEEPS = "standard output in files"
DISTRIBUTION = "hyperqueue"
SIZES = {"noop": 100, "work": 100, "large": 100}
INSERTED = None


def missing():
    return None if find_spec("hyperqueue") else "hyperqueue is not installed (uv sync --group benchmarks)"


def print_result(kind, number):
    import tasks

    print(tasks.KINDS[kind](number))


def run(kind, n, folder):
    keep_to_loopback()
    from hyperqueue import Job, LocalCluster
    from hyperqueue.cluster import WorkerConfig
    from hyperqueue.task.function import PythonEnv

    out = folder / "out"
    out.mkdir()
    with LocalCluster(server_dir=str(folder / "server"), worker_config=WorkerConfig(cores=2)) as cluster:
        client = cluster.client(python_env=PythonEnv(python_bin=sys.executable))
        job = Job(default_workdir=folder)
        for number in range(n):
            job.function(print_result, args=(kind, number), stdout=str(out / f"{number}.txt"))
        start = time.time()
        client.wait_for_jobs([client.submit(job)])
    written = [status for file in out.iterdir() if (status := file.stat()).st_size]
    if len(written) != n:
        raise RuntimeError(f"{len(written)} of {n} results are there")
    return max(status.st_mtime for status in written) - start


def keep_to_loopback():
    """Move this process, which has one thread yet, into a network of its own."""
    new_user, new_network = 0x10000000, 0x40000000
    unshare = ctypes.CDLL(None, use_errno=True).unshare
    if unshare(new_network) and unshare(new_user | new_network):
        raise RuntimeError(f"no network of its own to be had: {os.strerror(ctypes.get_errno())}")
    set_flags, up_and_running = 0x8914, 0x1 | 0x40
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh22x", b"lo", up_and_running))
