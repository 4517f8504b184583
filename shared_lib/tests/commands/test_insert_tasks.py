"""poe insert_tasks: all of a table or nothing of it, with the reason."""

import json
import sqlite3

import pytest
from taskfleet import insert_tasks


def status(poe):
    return json.loads(poe("status", "--json").out)


def write(project, rows):
    (project / "tasks.json").write_text(json.dumps(rows))


def test_the_number_inserted_and_what_to_do_next_are_said(poe):
    answer = poe("insert_tasks")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == "Inserted 4 tasks into job sums.\n\nNext: uv run poe launch_worker\n"
    assert status(poe)["counts"]["pending"] == 4


def test_the_same_table_twice_adds_nothing_and_says_so(poe):
    poe("insert_tasks")
    answer = poe("insert_tasks")
    assert answer.code == 0
    assert "No new tasks for job sums.\n4 rows skipped: already inserted" in answer.out
    assert status(poe)["total"] == 4


def test_rows_without_ids_get_ids_from_their_content(project, poe):
    write(project, [{"num1": 1, "num2": 2}, {"num1": 1, "num2": 2}, {"num2": 2, "num1": 3}])
    answer = poe("insert_tasks")
    assert "Inserted 3 tasks" in answer.out
    assert "1 row equal to an earlier one" in answer.out
    assert "No new tasks" in poe("insert_tasks").out


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ([{"num1": 1}], ["lacks column num2", "row 1", "tasks.json"]),
        ([{"num1": 1, "num2": 2, "colour": 3}], ["has column colour", "no parameter", "row 1"]),
        ([{"num1": 1, "num2": 2, "context": 3}], ["context", "reserved for the worker"]),
        ([{"num1": 1, "num2": 2}, {"num1": 1, "num3": 2}], ["lacks column num2", "has column num3", "row 2"]),
        ([{"task_id": "a", "data": {"num1": 1, "num2": 2}}] * 2, ["'a'", "twice", "row 2"]),
        ([], ["has no rows"]),
        ({"num1": 1}, ["tasks.json"]),
    ],
)
def test_what_does_not_fit_is_refused_whole_with_its_place(project, poe, rows, parts):
    write(project, rows)
    answer = poe("insert_tasks")
    assert answer.code == 1
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert "Traceback" not in answer.err
    for part in parts:
        assert part in answer.err
    assert not (project / "jobs").exists() or status(poe)["total"] == 0


def test_a_fault_in_the_last_of_many_batches_leaves_nothing(project, poe):
    good = [{"num1": number, "num2": 1} for number in range(120_000)]
    (project / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*good, {"num1": 1}]))
    answer = poe("insert_tasks", "--task-table", "tasks.jsonl")
    assert answer.code == 1
    assert "row 120001" in answer.err.replace(",", "")
    with sqlite3.connect(project / "jobs" / "sums.db") as ledger:
        assert ledger.execute("SELECT count(*) FROM task").fetchone() == (0,)


def test_a_changed_task_under_a_known_id_is_refused(project, poe):
    poe("insert_tasks")
    write(project, [{"task_id": "t0", "data": {"num1": 99, "num2": 10}}])
    answer = poe("insert_tasks")
    assert answer.code == 1
    assert "'t0' is in this job already with other data" in answer.err
    assert '"num1":99' in answer.err


def test_a_stretch_of_the_table(poe):
    assert "Inserted 2 tasks" in poe("insert_tasks", "--start-task", "1", "--limit", "2").out
    assert [line.split()[0] for line in poe("tasks").out.splitlines()[1:]] == ["t1", "t2"]


def test_a_start_beyond_the_end_is_an_error(poe):
    answer = poe("insert_tasks", "--start-task", "4")
    assert answer.code == 1
    assert "START_TASK=4" in answer.err


def test_a_dry_run_checks_and_inserts_nothing(project, poe):
    answer = poe("insert_tasks", "--dry-run")
    assert "Checked 4 rows" in answer.out
    assert not (project / "jobs").exists()


def test_a_missing_table_is_named_and_no_ledger_is_made(project, poe):
    answer = poe("insert_tasks", "--task-table", "nowhere.feather")
    assert answer.code == 1
    assert "nowhere.feather" in answer.err
    assert not (project / "jobs").exists()


def test_a_generator_named_in_the_settings(poe):
    assert "Inserted 5 tasks" in poe("insert_tasks", "--task-table", "task:make_tasks").out


def test_a_generator_and_a_filter_from_the_project_s_script(project, poe, capsys):
    seen = []

    def filter_tasks(table, output_path):
        seen.append((list(table.columns), output_path))
        return table[table["num1"] > 1]

    insert_tasks(
        ({"num1": n, "num2": 0} for n in range(4)), filter_tasks=filter_tasks, argv=["--output-path", "somewhere"]
    )
    assert "Inserted 2 tasks into job sums.\n2 rows removed by filter_tasks." in capsys.readouterr().out
    assert seen == [(["num1", "num2"], "somewhere")]


def test_a_filter_that_leaves_nothing_is_not_an_error(poe, capsys):
    insert_tasks(filter_tasks=lambda table, output_path: table[:0], argv=[])
    assert "No new tasks for job sums.\n4 rows removed by filter_tasks." in capsys.readouterr().out
    assert poe("launch_worker").code == 0


def test_a_task_module_with_a_mistake_is_shown_without_the_library_s_frames(project, poe):
    (project / "task.py").write_text("import json\n\ndef helper():\n    return json.loads('{')\n\nhelper()\n")
    answer = poe("insert_tasks")
    assert answer.code == 1
    assert answer.err.startswith("error: task:run_task cannot be imported: json.decoder.JSONDecodeError: ")
    assert "line 4, in helper" in answer.err
    assert "functions.py" not in answer.err
    assert "importlib" not in answer.err


def test_a_missing_function_is_named(poe):
    answer = poe("insert_tasks", "--task-function", "task:walk")
    assert answer.code == 1
    assert "no function 'walk'" in answer.err
