"""Log messages: warnings on standard error, more with -v, everything in a log file."""

import logging
import re

import pytest
from taskfleet.errors import SettingsError
from taskfleet.terminal.logs import configure_logging


@pytest.fixture
def logger():
    """A logger of the library; no handler stays behind."""
    yield logging.getLogger("taskfleet.somewhere")
    configure_logging(0, None)


@pytest.mark.parametrize(
    ("verbosity", "levels"),
    [(0, ["WARNING"]), (1, ["INFO", "WARNING"]), (2, ["DEBUG", "INFO", "WARNING"]), (5, ["DEBUG", "INFO", "WARNING"])],
)
def test_more_v_print_more(logger, capsys, verbosity, levels):
    configure_logging(verbosity, None)
    logger.debug("one %s", 1)
    logger.info("two")
    logger.warning("three")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert [line.split()[1] for line in printed.err.splitlines()] == levels  # behind the time: it is no terminal
    assert re.fullmatch(r"\d\d:\d\d:\d\d  WARNING taskfleet\.somewhere: three", printed.err.splitlines()[-1])


def test_a_log_file_has_everything_with_time_and_process(logger, capsys, tmp_path):
    file = tmp_path / "logs" / "job.log"
    configure_logging(0, file)
    logger.debug("details")
    logger.warning("trouble")
    configure_logging(0, file)  # as the next command does
    logger.info("later")
    assert "details" not in capsys.readouterr().err
    lines = file.read_text().splitlines()
    assert [line.rpartition(": ")[2] for line in lines] == ["details", "trouble", "later"]
    assert all(
        re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ \d+ [A-Z]+ taskfleet\.somewhere: ", line) for line in lines
    )


def test_configuring_twice_prints_once(logger, capsys):
    configure_logging(1, None)
    configure_logging(1, None)
    logger.info("once")
    assert capsys.readouterr().err.count("once") == 1


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"--log-file .*file/job\.log"):
        configure_logging(0, tmp_path / "file" / "job.log")
