"""Each manager has its own pending tasks."""

import pytest
from taskfleet.ledger import call_records, calls, checks, function_graph, leasing, managers, migrations, moving, repair
from taskfleet.ledger.call_dependencies import Parents
from taskfleet.ledger.calls import Call
from taskfleet.ledger.database import create, open_ledger
from taskfleet.tasks import Finished, Outcome, RetryPolicy, State


def functions(database):
    """Enter a function for each of two managers, and one for the default one."""
    return [
        calls.register_function(database, name, manager=manager)
        for name, manager in zip("abc", ("one", "two", ""), strict=True)
    ]


def lease(job, worker, manager, most=9999):
    number = managers.number_of(job.database, manager)
    found = leasing.lease(job.database, worker, most, skip=0, lease_seconds=30.0, now=1.0, manager=number)
    return [one.task_id for one in found]


def batch(function, prefix, n=1500):
    """Return calls that become a segment if the function has no manager."""
    return [Call(f"{prefix}{i}", "{}", function) for i in range(n)]


def leasable(job):
    """Return the names of the managers with pending tasks, and check that the ledger is sound."""
    assert [one for one in checks.check(job.database) if not one.is_ok] == []
    names = {0: "", **managers.names(job.database)}
    found = {name for number, name in names.items() if leasing.has_leasable(job.database, 0, number)}
    assert found == {names[number] for number in managers.pending(job.database)}
    return found


def test_only_tasks_of_the_manager_are_leased(job):
    one, two, none = functions(job.database)
    calls.insert_calls(job.database, [Call(f"t{n}", "{}", (one, two, none)[n % 3]) for n in range(3000)])
    worker = job.worker()
    assert lease(job, worker, "one", 3) == ["t0", "t3", "t6"]
    assert lease(job, worker, "two", 2) == ["t1", "t4"]
    assert lease(job, worker, "three") == []
    assert leasable(job) == {"one", "two", ""}
    assert lease(job, worker, "two") == [f"t{n}" for n in range(7, 3000, 3)]
    assert leasable(job) == {"one", ""}
    assert leasing.next_due_at(job.database, 0, managers.number_of(job.database, "two")) is None
    assert lease(job, worker, "") == [f"t{n}" for n in range(2, 3000, 3)]
    assert leasable(job) == {"one"}


def test_a_lease_does_not_look_at_the_tasks_of_other_managers(job):
    functions(job.database)
    for condition in leasing._PENDING + leasing._PENDING_BEYOND:
        plan = job.database.rows(
            f"EXPLAIN QUERY PLAN SELECT seq FROM state WHERE {condition} AND available_at <= :now ORDER BY available_at, seq LIMIT 9",
            {"manager": 1, "now": 1.0, "skip": 5},
        )
        [(*_, how)] = plan
        assert how.startswith("SEARCH state USING INDEX state_pending (manager_id=? AND available_at"), how


@pytest.mark.parametrize("before", ["", "one"])
@pytest.mark.parametrize("after", ["", "one", "two"])
def test_what_has_not_begun_goes_to_the_new_manager(job, before, after):
    function = calls.register_function(job.database, "f", manager=before)
    other = calls.register_function(job.database, "other")
    calls.insert_calls(job.database, [*batch(other, "before"), *batch(function, "f"), *batch(other, "after")])
    first = calls.insert_calls(job.database, [Call("parent", "{}", other)]).seqs[0]
    calls.insert_calls(job.database, [Call("child", "{}", function, (Parents(first, first),))])
    worker = job.worker()
    of_parent = lease(job, worker, "", 2)
    assert of_parent == ["parent", "before0"] if before else ["before0", "before1"]
    begun = lease(job, worker, before, 5)
    assert calls.register_function(job.database, "f", manager=after) == function
    leasable(job)
    left = [one for one in [f"f{n}" for n in range(1500)] if one not in begun]
    found = lease(job, worker, after)
    assert [one for one in found if one[0] == "f"] == left
    assert {before, after} == {after} or not [one for one in lease(job, worker, before) if one[0] == "f"]
    job.database.execute("UPDATE worker SET lease_until = 0")
    leasing.reap(
        job.database, policy=RetryPolicy(retries={Outcome.LOST: 1}, delay_seconds=0, max_delay_seconds=0), now=2.0
    )
    assert leasable(job) == {"", after}  # those that had begun with the old manager, too
    assert {one for one in lease(job, job.worker(), after) if one[0] == "f"} == {f"f{n}" for n in range(1500)}


def test_tasks_of_a_service_keep_their_manager_on_the_way_back(job):
    """Some were sent before their function got a manager, some were killed, and then all move into the ledger."""
    database = job.database
    database.execute("UPDATE job SET queue_url = 'sqs://q'")
    function, other = calls.register_function(database, "f"), calls.register_function(database, "other")
    calls.insert_calls(database, [*batch(other, "o"), *batch(function, "f")])
    database.execute("UPDATE segment SET sent_seq = 2000")
    repair.purge(database)
    repair.retry(database, killed=True)
    calls.insert_calls(database, [*batch(function, "g")])
    database.execute("UPDATE segment SET sent_seq = first_seq + 99")
    calls.register_function(database, "f", manager="one")
    assert database.value("SELECT count(*) FROM unsent JOIN task USING (seq) WHERE id LIKE 'g%'") == 1400
    leasable(job)
    moving.move(database, None)
    assert leasable(job) == {"", "one"}
    worker = job.worker()
    assert {one[0] for one in lease(job, worker, "")} == {"o"}
    assert len(lease(job, worker, "one")) == 3000


def test_the_ledger_of_a_desipipe_queue_from_before_the_table_of_managers(tmp_path, monkeypatch):
    path = tmp_path / "old.db"
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:8])
        old = create(path, job_id="job", project=tmp_path, now=0.0)
        for number, options in enumerate(
            ('{"manager": "one"}', "{}", '{"manager": "two"}', '{"manager": ""}'), start=1
        ):
            old.execute("INSERT INTO function (name, options) VALUES (?, ?)", (f"f{number}", options))
            old.execute("INSERT INTO function_run VALUES (?, ?, ?)", (number, number, number))
            old.execute(
                "INSERT INTO task (seq, id, data, function_id) VALUES (?, ?, '{}', ?)", (number, f"t{number}", number)
            )
            old.execute(f"INSERT INTO state (seq, state) VALUES (?, {State.PENDING})", (number,))
        old.close()
    database = open_ledger(path, job_id="job")
    names = managers.names(database)
    assert sorted(names.values()) == ["one", "two"]
    found = database.rows("SELECT id, state.manager_id FROM task JOIN state USING (seq)")
    assert {task_id: names.get(number, "") for task_id, number in found} == {
        "t1": "one",
        "t2": "",
        "t3": "two",
        "t4": "",
    }
    assert list(checks.CHECKS["functions"](database)) == []
    database.close()


def test_a_call_that_waited_goes_to_its_own_manager(job):
    one, two, _ = functions(job.database)
    seq = calls.insert_calls(job.database, [Call("parent", "{}", one)]).seqs[0]
    calls.insert_calls(job.database, [Call("child", "{}", two, (Parents(seq, seq),))])
    worker = job.worker()
    assert lease(job, worker, "two") == []
    assert lease(job, worker, "one") == ["parent"]
    done = Finished(seq=seq, attempt=1, outcome=Outcome.SUCCEEDED, started_at=1.0, elapsed_seconds=0.0, result="1")
    leasing.finish(
        job.database, worker, [done], policy=RetryPolicy(retries={}, delay_seconds=1, max_delay_seconds=1), now=2.0
    )
    assert lease(job, worker, "one") == []
    assert lease(job, worker, "two") == ["child"]


def test_only_calls_that_have_not_begun_are_handed_over(job):
    one, two, _ = functions(job.database)
    seqs = calls.insert_calls(job.database, [Call("begun", "{}", one), Call("new", "{}", one)]).seqs
    worker = job.worker()
    assert lease(job, worker, "one", 1) == ["begun"]
    for seq in seqs:
        call_records.hand_over(job.database, seq, two)
    found = {one.task_id: one.function_id for one in call_records.calls(job.database)}
    assert found == {"begun": one, "new": two}
    assert lease(job, worker, "two") == ["new"]
    assert call_records.unfinished_functions(job.database) == set()


def test_the_graph_of_functions_follows_a_call_that_was_handed_over(job):
    one, two, none = functions(job.database)
    seqs = calls.insert_calls(job.database, [Call(f"t{n}", "{}", one) for n in range(3)]).seqs
    calls.insert_calls(job.database, [Call("child", "{}", none, (Parents(seqs[1], seqs[1]),))])
    call_records.hand_over(job.database, seqs[1], two)

    def counted():
        return {one.name: one.total for one in function_graph.count_by_function(job.database)}

    def edges():
        return {(one.parent, one.child) for one in function_graph.function_edges(job.database)}

    assert counted() == {"a": 2, "b": 1, "c": 1}
    assert edges() == {("a", "c"), ("b", "c")}
    for seq in (seqs[0], seqs[2]):
        call_records.hand_over(job.database, seq, two)
    assert counted() == {"b": 3, "c": 1}
    assert edges() == {("b", "c")}
