"""A real Slurm cluster on this computer: munged, slurmctld and some slurmd that act as nodes, for one user, without root."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
#: Debian's place of daemons, which users may not have on their PATH.
SBIN = "/usr/sbin"
#: Where Slurm's own commands are; a test may put others in front of them.
PATH = f"{os.environ['PATH']}:{SBIN}"

_CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
ReturnToService=2
MaxArraySize={max_array_size}
MaxJobCount=20000
SchedulerParameters=sched_interval=2,batch_sched_delay=0,bf_interval=2,sched_min_interval=100000
MinJobAge={min_job_age}
KillWait=2
TmpFS={folder}/tmp.%n
SlurmdParameters=config_overrides
SlurmdTimeout=300
{accounts}
{nodes}
{partitions}
"""
_NO_ACCOUNTS = """\
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
"""
_PARTITIONS = """\
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=ALL MaxTime=30 State=UP
PartitionName=closed Nodes=ALL MaxTime=30 State=DOWN
"""


@dataclass
class Cluster:
    """A running cluster."""

    folder: Path
    nodes: tuple[str, ...]
    processes: dict[str, subprocess.Popen]

    @property
    def configuration(self) -> str:
        """What SLURM_CONF has to be."""
        return str(self.folder / "slurm.conf")

    def run(self, *words: str, check: bool = True) -> str:
        """Run one of Slurm's commands; a second client beside the product."""
        environment = {**os.environ, "PATH": PATH, "SLURM_CONF": self.configuration, "TZ": "UTC", "LC_ALL": "C"}
        done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=120, check=False)
        assert not check or done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def states(self) -> dict[str, str]:
        """Return the states of all jobs by their ID."""
        lines = self.run("squeue", "--noheader", "--all", "--array", "--states=all", "--format=%F_%K %T").split("\n")
        return dict(line.split() for line in lines if line)

    def end_jobs(self) -> None:
        """End all jobs of this user."""
        user, deadline = f"--user={os.getuid()}", time.monotonic() + 60
        while self.run("squeue", "--noheader", "--all", user, check=False) and time.monotonic() < deadline:
            self.run("scancel", "--full", "--signal=KILL", user, check=False)
            self.run("scancel", user, check=False)
            time.sleep(0.1)


@contextlib.contextmanager
def cluster(
    folder: Path,
    *,
    nodes: int = 2,
    cpus: int = 8,
    min_job_age: int = 600,
    max_array_size: int = 1001,
    has_accounts: bool = False,
):
    """Start a cluster, and end it with all that runs on it.

    Args:
        folder: For its files; its path must be short enough for sockets.
        nodes: How many.
        cpus: That each node pretends to have.
        min_job_age: How long ended jobs are known, in seconds.
        max_array_size: The limit of job arrays.
        has_accounts: Whether to start its accounts, see ``slurm_accounts``.
    """
    from shared_lib.tests.services import slurm_accounts

    path = f"{os.environ['PATH']}:{SBIN}"
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    host = socket.gethostname().partition(".")[0]
    names = tuple(f"n{index}" for index in range(1, nodes + 1))
    ports = _free_ports(nodes + 3)
    lines = [
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory=16000 State=UNKNOWN"
        for name, port in zip(names, ports[3:], strict=True)
    ]
    (folder / "slurm.conf").write_text(
        _CONFIGURATION.format(
            host=host,
            controller_port=ports[0],
            folder=folder,
            user=user,
            max_array_size=max_array_size,
            min_job_age=min_job_age,
            nodes="\n".join(lines),
            accounts="" if has_accounts else _NO_ACCOUNTS,
            partitions=_PARTITIONS
            + (slurm_accounts.LINES.format(folder=folder, dbd_port=ports[2]) if has_accounts else ""),
        )
    )
    (folder / "state").mkdir()
    for name in names:
        (folder / f"tmp.{name}").mkdir()  # each node has its own, as PMIx expects
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    environment = {**os.environ, "PATH": path, "SLURM_CONF": str(folder / "slurm.conf")}

    def start(name: str, *words: str) -> subprocess.Popen:
        with (folder / f"{name}.out").open("wb") as output:
            return subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
            )

    made = Cluster(folder, names, {})
    try:
        files = {
            "key-file": key,
            **{one: folder / f"munge.{one}" for one in ("socket", "pid-file", "log-file", "seed-file")},
        }
        made.processes["munged"] = start(
            "munged", "munged", "--foreground", "--force", *(f"--{name}={path}" for name, path in files.items())
        )
        _wait(lambda: (folder / "munge.socket").exists(), "munged", folder)
        if has_accounts:
            starting = slurm_accounts.start(
                folder, user, ports[1], ports[2], start, lambda condition, what: _wait(condition, what, folder)
            )
            for name, process in zip(("mariadbd", "slurmdbd"), starting, strict=True):
                made.processes[name] = process
        made.processes["slurmctld"] = start("slurmctld", "slurmctld", "-D", "-i")
        for name in names:
            made.processes[name] = start(name, "slurmd", "-D", "-N", name)
        _wait(lambda: _is_idle(made), "idle nodes", folder)
        yield made
    finally:
        _end(made)


def _is_idle(made: Cluster) -> bool:
    states = made.run("sinfo", "--noheader", "--Node", "--partition=main", "--format=%t", check=False).split()
    return states == ["idle"] * len(made.nodes)


def _end(made: Cluster) -> None:
    if "slurmctld" in made.processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            made.end_jobs()
    for process in reversed(made.processes.values()):
        process.terminate()
    for process in made.processes.values():
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _wait(condition, what: str, folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            texts = [
                f"--- {one.name}\n{one.read_text(errors='replace')[-2000:]}" for one in sorted(folder.glob("*.out"))
            ]
            texts += [
                f"--- {one.name}\n{one.read_text(errors='replace')[-2000:]}" for one in sorted(folder.glob("*.log"))
            ]
            raise AssertionError(f"waited 60 s in vain for {what}\n" + "\n".join(texts))
        time.sleep(0.1)


def missing() -> str:
    """Return what is missing for a cluster on this computer; empty if nothing is missing."""
    return missing_of(NEEDED, "slurm-wlm munge")


def missing_of(needed: tuple[str, ...], packages: str) -> str:
    """Return which commands are missing, with the packages that have them; empty for none."""
    path = f"{os.environ['PATH']}:{SBIN}"
    lacking = [name for name in needed if shutil.which(name, path=path) is None]
    return f"Slurm (Debian: {packages}; {', '.join(lacking)} not found)" if lacking else ""
