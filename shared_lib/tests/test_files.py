"""Files of a job are readable for their user alone, whatever the umask."""

import os
import stat

from taskfleet.files import make_private_folder, open_private, write_atomically
from taskfleet.ledger.database import create


def modes(folder):
    """The mode of each file and folder, by its path."""
    return {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in sorted(folder.rglob("*"))}


def test_missing_folders_are_made_for_the_user_alone_and_others_keep_their_mode(tmp_path):
    (tmp_path / "mine").mkdir(0o755)
    make_private_folder(tmp_path / "mine" / "a" / "b")
    make_private_folder(tmp_path / "mine")
    assert modes(tmp_path) == {"mine": 0o755, "mine/a": 0o700, "mine/a/b": 0o700}


def test_a_new_file_is_for_the_user_alone_and_another_keeps_its_mode(tmp_path):
    (tmp_path / "old").touch(0o644)
    for name in ("old", "new"):
        os.close(open_private(tmp_path / name, os.O_WRONLY | os.O_CREAT))
    write_atomically(tmp_path / "whole", "text")
    assert modes(tmp_path) == {"old": 0o644, "new": 0o600, "whole": 0o600}


def test_a_ledger_that_hosts_share_is_for_the_user_alone(tmp_path):
    create(tmp_path / "jobs" / "one.db", job_id="one", project=tmp_path, now=0.0, shared=True).close()
    assert set(modes(tmp_path / "jobs").values()) == {0o600}
    assert "one.db-writer" in modes(tmp_path / "jobs")
