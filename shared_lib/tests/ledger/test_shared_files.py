"""Ledgers that several hosts share, projects that share a ledger by mistake, and ledgers of older versions."""

import resource
import subprocess
import sys

import pytest
from taskfleet.errors import LedgerError
from taskfleet.ledger import insertion, leasing
from taskfleet.ledger.database import create, open_ledger
from taskfleet.ledger.shared_files import LockProbe, Witness, check_locks, is_shared

MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
tmpfs /home/local tmpfs rw 0 0
me@host: /mnt/remote\\040files fuse.sshfs rw 0 0
"""


@pytest.fixture
def shared(tmp_path):
    database = create(tmp_path / "a.db", job_id="job", project=tmp_path, now=0.0, shared=True)
    yield database
    database.close()


@pytest.mark.parametrize(
    ("folder", "expected"),
    [("/tmp", False), ("/home/me/p", True), ("/home/local/p", False), ("/homes", False), ("/mnt/remote files/p", True)],
)
def test_network_file_systems_are_told_by_their_mounts(folder, expected):
    from pathlib import Path

    assert is_shared(Path(folder), MOUNTS) is expected


def test_a_shared_ledger_has_no_write_ahead_log_and_stays_so(shared, tmp_path):
    again = open_ledger(tmp_path / "a.db", job_id="job")
    assert again.value("PRAGMA journal_mode") == "delete"
    assert again.witness is not None
    again.close()


def test_a_shared_ledger_does_what_any_ledger_does(shared):
    under_way = insertion.begin(shared, source="test")
    under_way.add(["a", "b"], ["{}", "{}"], ids_are_derived=False, now=0.0)
    under_way.accept(0.0)
    worker_id = leasing.register(shared, hostname="h", process="p", pid=1, slots=1, lease_seconds=30, now=0.0)
    assert [lease.task_id for lease in leasing.lease(shared, worker_id, 5, skip=0, lease_seconds=30, now=0.0)] == [
        "a",
        "b",
    ]


def test_a_writer_that_finds_another_s_mark_changes_nothing_and_says_that_locks_fail(shared, tmp_path):
    def write_while_another_host_does():
        with shared.transaction():
            shared.execute("INSERT INTO tally VALUES ('x', 1)")
            Witness(tmp_path / "a.db").enter()  # as the other would, if its lock were granted too

    with pytest.raises(LedgerError, match="File locks do not work"):
        write_while_another_host_does()
    assert shared.value("SELECT count(*) FROM tally") == 0


def test_a_mark_that_cannot_be_left_changes_nothing_and_is_said(shared):
    def write():
        with shared.transaction():
            shared.execute("INSERT INTO tally VALUES ('x', 1)")

    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, most))  # Python ignores the signal; writing fails as on a full disk
    try:
        with pytest.raises(LedgerError, match=r"a\.db-writer.* Free disk space"):
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert shared.value("SELECT count(*) FROM tally") == 0
    write()
    assert shared.value("SELECT count(*) FROM tally") == 1


def test_locks_that_work_are_not_complained_about(tmp_path):
    check_locks(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def probe(tmp_path):
    made = LockProbe(tmp_path / "a.db")
    made.DELAY_SECONDS = 0.3
    yield made
    made.close()


def test_the_successor_of_a_holder_that_was_killed_on_another_host_takes_over(probe, tmp_path):
    (tmp_path / "a.db-holder").write_text("other/boot 1 every 0.1")
    probe.begin(10)
    probe.repeat(10)
    assert "other" not in (tmp_path / "a.db-holder").read_text()


def test_a_mark_of_another_host_is_noticed_also_later(probe, tmp_path):
    probe.begin(10)
    (tmp_path / "a.db-holder").write_text("other/boot 1 every 0.1")
    with pytest.raises(LedgerError, match="does not keep locks between hosts: this host and other have"):
        probe.repeat(10)


def test_a_holder_that_ends_leaves_no_mark(probe, tmp_path):
    probe.begin(10)
    assert (tmp_path / "a.db-holder").read_text().strip()
    probe.close()
    assert (tmp_path / "a.db-holder").read_text().strip() == ""


def test_a_second_probe_of_a_process_does_not_release_the_lock_of_the_first(probe, tmp_path):
    probe.begin(10)
    second = LockProbe(tmp_path / "a.db")
    second.begin(10)
    second.repeat(10)
    second.close()
    takes = f"import fcntl; fcntl.lockf(open({str(tmp_path / 'a.db-lock')!r}, 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    assert subprocess.run([sys.executable, "-c", takes], stderr=subprocess.DEVNULL).returncode == 1
    probe.close()
    assert subprocess.run([sys.executable, "-c", takes]).returncode == 0


def test_two_projects_on_one_ledger_are_told_apart(tmp_path):
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pyproject.toml").write_text(f'[project]\nname = "{name}"\n')
    create(tmp_path / "a.db", job_id="job", project=tmp_path / "ours", now=0.0).close()
    (tmp_path / "ours").rename(tmp_path / "moved")
    open_ledger(tmp_path / "a.db", job_id="job", project=tmp_path / "moved").close()
    with pytest.raises(LedgerError, match="another project: 'ours', not 'theirs'"):
        open_ledger(tmp_path / "a.db", job_id="job", project=tmp_path / "theirs")
    with pytest.raises(LedgerError, match="another project"):
        create(tmp_path / "a.db", job_id="job", project=tmp_path / "theirs", now=0.0)
