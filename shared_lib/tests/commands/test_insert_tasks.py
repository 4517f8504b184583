"""poe insert_tasks: all of a table or nothing of it, with the reason."""

import json
import re
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


FILTER = """

def filter_tasks(table, output_path):
    return table[table["task_id"] > "t1"]
"""


def test_a_filter_next_to_the_function_is_applied(project, poe):
    (project / "stars.py").write_text((project / "task.py").read_text() + FILTER)
    answer = poe("insert_tasks", "--task-function", "stars:run_task")
    assert "Inserted 2 tasks into job sums.\n2 rows removed by filter_tasks." in answer.out


def test_a_module_without_a_filter_inserts_all_rows_and_needs_no_task_py(project, poe):
    (project / "task.py").rename(project / "galaxies.py")
    assert "Inserted 4 tasks into job sums." in poe("insert_tasks", "--task-function", "galaxies:run_task").out


def test_a_filter_of_the_script_replaces_the_one_next_to_the_function(project, poe, capsys):
    (project / "planets.py").write_text((project / "task.py").read_text() + FILTER)
    insert_tasks(filter_tasks=lambda table, output_path: table, argv=["--task-function", "planets:run_task"])
    assert "Inserted 4 tasks into job sums.\n\n" in capsys.readouterr().out


def test_no_filter_is_a_filter_that_is_none(project, poe):
    with (project / "task.py").open("a") as file:
        file.write("\nfilter_tasks = None\n")
    assert "Inserted 4 tasks into job sums." in poe("insert_tasks").out


def test_a_filter_that_is_no_function_is_refused(project, poe):
    with (project / "task.py").open("a") as file:
        file.write("\nfilter_tasks = 3\n")
    answer = poe("insert_tasks")
    assert (answer.code, answer.err) == (1, "error: filter_tasks is 3, not a function. Nothing was inserted.\n")


#: Code of the user that raises, the table that uses it, and the beginning of the error.
RAISING = {
    "filter_tasks": (
        "def filter_tasks(table, output_path): {}",
        "tasks.json",
        "filter_tasks raised an exception for rows 1 to 4 of",
    ),
    "a generator": (
        "def rows():\n    yield {{'num1': 1, 'num2': 1}}\n    {}",
        "task:rows",
        "the generator rows raised an exception after 1 row:",
    ),
    "a factory": ("def rows(): {}", "task:rows", "task:rows raised an exception:"),
    "the module": ("{}", "tasks.json", "task:run_task cannot be imported:"),
}


@pytest.mark.parametrize("statement", ["1 / 0", "import pandas; pandas.DataFrame({})['nope']", "int('x\\ny')"])
@pytest.mark.parametrize("hook", RAISING)
def test_code_of_the_user_that_raises_is_named_with_its_own_lines_only(project, poe, hook, statement):
    code, table, beginning = RAISING[hook]
    with (project / "task.py").open("a") as file:
        file.write(f"\ndef helper(): {statement}\n" + code.format("helper()") + "\n")
    answer = poe("insert_tasks", "--task-table", table)
    assert (answer.code, answer.out) == (1, "")
    first, *frames = answer.err.splitlines()
    assert first.startswith(f"error: {beginning}")
    assert re.search(r": (ZeroDivisionError|KeyError|ValueError): ", first)
    files = [line for line in frames if line.startswith("  File ")]
    assert [line.split(", in ")[1] for line in files][-1] == "helper"
    assert all(f'File "{project / "task.py"}"' in line for line in files)
    assert "Traceback" not in answer.err
    assert not (project / "jobs").exists() or status(poe)["total"] == 0


def test_a_missing_package_is_one_sentence_and_the_line_that_imports_it(project, poe):
    (project / "task.py").write_text("import os\nimport no_such_package.part\n")
    answer = poe("insert_tasks")
    assert answer.code == 1
    assert answer.err == (
        "error: task:run_task cannot be imported: the module 'no_such_package' is not installed. Add its package to the project: "
        "uv add no_such_package (machines install only what a worker needs and what the project itself depends on).\n"
        "ModuleNotFoundError: No module named 'no_such_package'\n"
        f'  File "{project / "task.py"}", line 2, in <module>\n'
        "    import no_such_package.part\n"
    )


def test_a_mistake_in_the_syntax_is_shown_with_its_place(project, poe):
    (project / "task.py").write_text("def run_task(num1, num2) return 1\n")
    answer = poe("insert_tasks")
    assert answer.code == 1
    assert answer.err.startswith("error: task:run_task cannot be imported: SyntaxError: ")
    assert f'  File "{project / "task.py"}", line 1\n' in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("table", "error"),
    [
        ("task2:rows", "TASK_TABLE=task2:rows: there is no module 'task2' in "),
        ("task:rows", "TASK_TABLE=task:rows: "),
    ],
)
def test_a_generator_that_does_not_exist_is_named_with_its_setting(poe, table, error):
    answer = poe("insert_tasks", "--task-table", table)
    assert answer.code == 1
    assert answer.err.startswith(f"error: {error}")


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
