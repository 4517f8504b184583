"""The accounts of a Slurm cluster on this computer: MariaDB and slurmdbd, for one user, without root."""

import os
import shutil
import subprocess

from shared_lib.tests.services.slurm import NEEDED as SLURM_NEEDED
from shared_lib.tests.services.slurm import SBIN, missing_of

NEEDED = (*SLURM_NEEDED, "slurmdbd", "sacctmgr", "mariadbd", "mariadb-install-db")

_CONFIGURATION = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdPort={dbd_port}
SlurmUser={user}
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={port}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
"""
#: For slurm.conf. Jobs of the partition ``urgent`` cancel those of others.
LINES = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={dbd_port}
AccountingStoragePass={folder}/munge.socket
AccountingStorageEnforce=associations,limits
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
PartitionName=urgent Nodes=ALL PriorityTier=10 MaxTime=30 State=UP
"""


def start(folder, user, port, dbd_port, start, wait):
    """Start MariaDB and slurmdbd, and add the cluster and its user.

    Args:
        folder: For their files.
        user: Who runs them.
        port: Of MariaDB.
        dbd_port: Of slurmdbd.
        start: Starts a process: its name and its command line.
        wait: Waits for a condition: the condition, and what it is.
    """
    data, socket = folder / "mariadb", folder / "mariadb.socket"
    install = shutil.which("mariadb-install-db", path=f"{os.environ['PATH']}:{SBIN}")
    subprocess.run(
        [install, "--no-defaults", f"--datadir={data}", "--skip-test-db", f"--user={user}"],
        check=True,
        capture_output=True,
    )
    words = ["mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={socket}", f"--port={port}", f"--user={user}"]
    yield start(
        "mariadbd", *words, "--bind-address=127.0.0.1", "--innodb-buffer-pool-size=64M", f"--pid-file={data}/pid"
    )
    statements = (
        "CREATE DATABASE slurm; CREATE USER slurm@'%' IDENTIFIED BY 'slurm'; GRANT ALL ON slurm.* TO slurm@'%';"
    )
    client = ["mariadb", "--no-defaults", f"--socket={socket}", f"--user={user}", "--execute", statements]
    wait(lambda: subprocess.run(client, capture_output=True, check=False).returncode == 0, "MariaDB")
    file = folder / "slurmdbd.conf"
    file.write_text(_CONFIGURATION.format(folder=folder, user=user, port=port, dbd_port=dbd_port))
    file.chmod(0o600)
    yield start("slurmdbd", "slurmdbd", "-D")
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def add(*words):
        return subprocess.run(
            ["sacctmgr", "--immediate", *words], capture_output=True, env=environment, check=False
        ).returncode in (0, 1)

    wait(
        lambda: (
            subprocess.run(
                ["sacctmgr", "--immediate", "add", "cluster", "test"], capture_output=True, env=environment, check=False
            ).returncode
            == 0
        ),
        "slurmdbd",
    )
    assert add("add", "account", "science", "cluster=test")
    assert add("add", "user", user, "account=science", "cluster=test")


def missing() -> str:
    """Return what is missing for the accounts of a cluster on this computer; empty if nothing is missing."""
    return missing_of(NEEDED, "slurm-wlm munge slurmdbd mariadb-server")
