"""A command changes one setting in a file, and nothing else."""

import pytest
from taskfleet.errors import SettingsError
from taskfleet.settings.editing import set_in_file


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("A=1\nQUEUE_URL=ledger\nB=2\n", "A=1\nQUEUE_URL=server\nB=2\n"),
        ("# QUEUE_URL=x\n#QUEUE_URL=ledger\nB=2\n", "# QUEUE_URL=x\nQUEUE_URL=server\nB=2\n"),
        ("#QUEUE_URL=ledger\nQUEUE_URL=ledger\n", "#QUEUE_URL=ledger\nQUEUE_URL=server\n"),
        ("A=1", "A=1\nQUEUE_URL=server\n"),
        ("", "QUEUE_URL=server\n"),
    ],
)
def test_one_line_is_changed(tmp_path, before, after):
    path = tmp_path / "task.env"
    path.write_text(before)
    path.chmod(0o640)
    set_in_file(path, "QUEUE_URL", "server")
    assert path.read_text() == after
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real.env").write_text("")
    (tmp_path / "task.env").symlink_to("real.env")
    set_in_file(tmp_path / "task.env", "QUEUE_URL", "server")
    assert (tmp_path / "task.env").is_symlink()
    assert (tmp_path / "real.env").read_text() == "QUEUE_URL=server\n"


def test_a_file_that_cannot_be_changed_is_reported(tmp_path):
    with pytest.raises(SettingsError, match=r"task\.env cannot be changed.*Set QUEUE_URL=server"):
        set_in_file(tmp_path / "task.env", "QUEUE_URL", "server")
