"""The remedies that messages name help: each is followed as printed, alone, and the situation is over."""

import json
import re
import shlex

import pytest


@pytest.fixture
def follow(poe):
    """Return a function that types one of the commands in a message, as printed."""

    def run(answer, name):
        printed = answer.out + answer.err
        found = re.search(rf"uv run poe ({name}(?: --?[a-z]\S*(?: [a-z_]+(?=  |\n))?)*)", printed)
        assert found, printed
        return poe(*shlex.split(found[1].rstrip(".,")))

    return run


#: Commands that need a job, each in a project in which nothing was inserted yet.
WITHOUT_JOB = {
    "status": ["status"],
    "tasks": ["tasks"],
    "task": ["task", "t0"],
    "results": ["results", "-o", "out.csv"],
    "launch_worker": ["launch_worker"],
    "calibrate": ["calibrate"],
    "explain": ["explain", "pool"],
    "purge_queue": ["purge_queue", "--yes"],
    "release": ["release"],
}


@pytest.mark.parametrize("command", WITHOUT_JOB)
def test_without_a_job_the_command_in_the_message_makes_one(poe, follow, command):
    answer = poe(*WITHOUT_JOB[command])
    assert "Traceback" not in answer.err
    assert follow(answer, "insert_tasks").code == 0
    again = poe(*WITHOUT_JOB[command])
    assert "uv run poe insert_tasks" not in again.err, again.err
    assert again.code == 0 or command == "calibrate", again.err


def test_removed_tasks_are_put_back_as_the_message_says(poe, follow):
    poe("insert_tasks")
    removed = poe("purge_queue", "--yes")
    assert json.loads(poe("status", "--json").out)["counts"]["killed"] == 4
    assert follow(removed, "retry").code == 0
    assert json.loads(poe("status", "--json").out)["counts"]["pending"] == 4


def test_failed_tasks_are_listed_and_put_back_as_the_report_says(trouble, poe, follow):
    report = poe("status")
    assert [line.split()[0] for line in follow(report, "tasks").out.splitlines()[1:3]] == ["t1", "t2"]
    assert follow(report, "retry").code == 0
    assert json.loads(poe("status", "--json").out)["counts"]["pending"] == 2


def test_an_unknown_task_is_found_in_the_list_that_the_message_names(poe, follow):
    poe("insert_tasks")
    answer = poe("task", "t9")
    assert answer.code == 1
    assert "t0" in follow(answer, "tasks").out


def test_a_pending_task_without_a_worker_is_run_by_the_command_in_the_explanation(poe, follow):
    poe("insert_tasks")
    assert follow(poe("explain", "t0"), "launch_worker").code == 0
    assert json.loads(poe("status", "--json").out)["counts"]["succeeded"] == 4


@pytest.mark.parametrize("command", ["purge_queue", "delete_queue"])
def test_a_confirmation_that_nobody_can_give_is_given_by_the_flag_in_the_message(poe, command, monkeypatch):
    poe("insert_tasks")
    answer = poe(command)
    assert answer.code == 2
    [flag] = re.findall(r"add (--\w+)", answer.err)
    assert poe(command, flag).code == 0


def test_a_folder_that_does_not_exist_is_made_as_the_message_says(project, poe):
    poe("insert_tasks")
    answer = poe("results", "-o", "out/results.csv")
    assert answer.code == 1
    assert "Create it" in answer.err
    (project / "out").mkdir()
    assert poe("results", "-o", "out/results.csv").code == 0


def test_a_name_with_a_mistake_is_replaced_by_the_one_in_the_message(project, poe):
    settings = project / "config" / "task.env"
    settings.write_text(settings.read_text() + "MAX_RUNTIME_SECOND=5\n")
    answer = poe("insert_tasks")
    assert answer.code == 2
    [name] = re.findall(r"Did you mean (\w+)\?", answer.err)
    settings.write_text(settings.read_text().replace("MAX_RUNTIME_SECOND=", f"{name}="))
    assert poe("insert_tasks").code == 0


def test_a_variable_of_the_user_s_own_is_written_as_the_message_says(project, poe):
    settings = project / "config" / "task.env"
    settings.write_text(settings.read_text() + "COLOUR=red\n")
    answer = poe("insert_tasks")
    assert "export COLOUR=" in answer.err
    settings.write_text(settings.read_text().replace("COLOUR=", "export COLOUR="))
    assert poe("insert_tasks").code == 0


def test_outside_of_a_project_the_file_of_settings_is_named_as_the_message_says(project, poe, monkeypatch):
    folder = project / "elsewhere"
    folder.mkdir()
    (project / "config" / "task.env").rename(folder / "mine.env")
    answer = poe("status")
    assert answer.code == 2
    assert "name a file with -e FILE" in answer.err
    assert poe("insert_tasks", "-e", str(folder / "mine.env")).code == 0


def test_tasks_are_moved_to_another_queue_by_the_command_in_the_message(poe, monkeypatch):
    """Whether the other queue is in the settings or on the command line; without its service, only the connection fails."""
    poe("insert_tasks")
    other = "postgresql://somebody@127.0.0.1:1/nothing"
    for words, environment in ((["show_queue", "--queue-url", other], ""), (["show_queue"], other)):
        monkeypatch.setenv("QUEUE_URL", environment)
        answer = poe(*words)
        [command] = re.findall(r"move the tasks: uv run poe (.*)", answer.err)
        assert command == f"move_queue --queue-url ledger --to {other}"
        moved = poe(*shlex.split(command), "--yes")
        assert moved.code == 1
        assert "connect" in moved.err.lower() or "reach" in moved.err.lower(), moved.err
