"""What must be true when all is over. Nearly all evidence is gathered without the library's own reading of the ledger."""

import json
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, combinations

from taskfleet.ledger.checks import check
from taskfleet.ledger.database import open_ledger
from taskfleet.tasks import FAILURE_KINDS, Outcome, State

from tests.chaos import graphs, work
from tests.chaos.scenario import Busy, Command, FullDisk, Jump, Kill, Pause, Signal

#: A worker that cannot be heard for the length of so short a lease may just have had no processor.
SHORT_LEASE_SECONDS = 5


@dataclass
class Attempt:
    """One attempt that the ledger knows the end of."""

    number: int
    outcome: Outcome
    elapsed_seconds: float
    result: str | None
    output: str | None
    exit_code: int | None
    value: object = None
    """The result of a call, with those of its files."""


@dataclass
class Task:
    """One task as the ledger has it."""

    seq: int
    task_id: str
    n: int
    kind: str
    state: State
    failure: Outcome | None
    attempt: int
    tries_from: int
    holder: int | None
    attempts: list[Attempt] = field(default_factory=list)
    is_call: bool = False
    """Whether it is of the graph."""
    missing: int = 0
    """For how many parents it waits."""


@dataclass
class Evidence:
    """All that the checks look at."""

    scenario: object
    integrity: str
    tasks: list[Task]
    counters: dict
    """(state, kind) to number, as the ledger keeps them."""
    tallies: dict
    duration_count: int
    duration_buckets: int
    throughput: int
    open_insertions: int
    notes: Counter
    insertions: list
    """(table, exit code, whether a fault killed it)"""
    processes: list
    """(what, exit code, whether a fault killed it, what it printed)"""
    left: dict
    """Processes that still run."""
    files: list
    """What lies in the project's folders."""
    events: list
    """Lines of the event file."""
    noted: list = field(default_factory=list)
    """The notes in their order."""


def gather(job, scenario, insertions):
    """Look at what is left of a job."""
    tasks = {}
    for seq, task_id, data, state, attempt, tries_from, kind, holder, function_id, missing in job.query(
        "SELECT task.seq, id, data, state.state, attempt, tries_from, kind, worker_id, function_id, missing "
        "FROM task LEFT JOIN state USING (seq) "
        "WHERE state.seq IS NOT NULL OR EXISTS (SELECT 1 FROM segment WHERE task.seq BETWEEN first_seq AND last_seq)"
    ):
        given = json.loads(data)
        state = State.PENDING if state is None else State(state)
        failure = Outcome(kind) if state is State.FAILED else None
        tasks[seq] = Task(
            seq, task_id, given["n"], given["kind"], state, failure, attempt or 0, tries_from or 0, holder
        )
        tasks[seq].is_call, tasks[seq].missing = bool(function_id), missing or 0
    for key, outcome, elapsed, result, output, code in job.query(
        "SELECT key, outcome, elapsed_seconds, result, output, exit_code FROM attempt ORDER BY key"
    ):
        task, value = tasks[key // 1000], None
        if task.is_call and result is not None:
            value = graphs.read_result(result, job.results_path)
            result = json.dumps({name: value[name] for name in ("square", "pad")})
        task.attempts.append(Attempt(key % 1000, Outcome(outcome), elapsed, result, output, code, value))
    return Evidence(
        scenario=scenario,
        integrity=ledger_problems(job),
        tasks=list(tasks.values()),
        counters={(state, kind): n for state, kind, n in job.query("SELECT state, kind, n FROM counter") if n},
        tallies=dict(job.query("SELECT name, n FROM tally")),
        duration_count=sum(n for (n,) in job.query("SELECT n FROM duration_moments")),
        duration_buckets=sum(n for (n,) in job.query("SELECT n FROM duration")),
        throughput=sum(n for (n,) in job.query("SELECT n FROM throughput")),
        open_insertions=job.query("SELECT count(*) FROM insertion WHERE accepted_at IS NULL")[0][0],
        notes=job.notes(),
        insertions=[(table, one.exit_code, one.was_hit) for table, one in insertions],
        processes=[(one.what, one.exit_code, one.was_hit, one.text) for one in job.started],
        left=job.left(),
        files=sorted(str(path.relative_to(job.project)) for path in job.project.rglob("*") if path.is_file()),
        noted=job.notes_in_order(),
        events=job.event_path.read_text(errors="replace").splitlines() if job.event_path.exists() else [],
    )


def ledger_problems(job):
    """Say what ``poe check_ledger`` finds, and what SQLite does."""
    own = "; ".join(row[0] for row in job.query("PRAGMA integrity_check"))
    with closing(open_ledger(job.ledger_path, job_id=job.job_id, read_only=True)) as database:
        found = [f"{one.name}: {text}" for one in check(database) for text in one.problems]
    return "; ".join([own, *found])


def complaints(evidence):
    """Say all that is wrong."""
    return [complaint for check in (*CHECKS, *graphs.CHECKS) for complaint in check(evidence)]


def file_is_whole(evidence):
    """SQLite finds the file undamaged, and ``poe check_ledger`` finds nothing wrong."""
    if evidence.integrity != "ok":
        yield f"integrity_check: {evidence.integrity}"


def counts_add_up(evidence):
    """inserted = waiting + pending + running + succeeded + failed + killed, and each count is that of the tasks."""
    inserted = evidence.tallies.get("inserted", 0)
    counted = sum(evidence.counters.values())
    if inserted != counted or inserted != len(evidence.tasks):
        yield f"inserted {inserted}, the counts add up to {counted}, there are {len(evidence.tasks)} tasks"
    recount = Counter((int(task.state), int(task.failure or 0)) for task in evidence.tasks)
    if recount != evidence.counters:
        yield f"the counts are {evidence.counters}, the tasks say {dict(recount)}"
    successes = sum(one.outcome is Outcome.SUCCEEDED for task in evidence.tasks for one in task.attempts)
    if not successes == evidence.duration_count == evidence.duration_buckets:
        yield f"{successes} successes, durations of {evidence.duration_count} and {evidence.duration_buckets}"
    ended = sum(
        task.state in (State.SUCCEEDED, State.FAILED) and task.failure is not Outcome.UPSTREAM
        for task in evidence.tasks
    )
    if evidence.throughput < ended or (evidence.throughput > ended and not _commanded(evidence, "retry")):
        yield f"{ended} tasks have ended, the throughput says {evidence.throughput}"


def insertions_are_whole(evidence):
    """What was accepted is there, what was not is not, and a killed insertion is one or the other."""
    found = Counter(task.n for task in evidence.tasks if not task.is_call)
    accepted = {table for table, code, _ in evidence.insertions if code == 0}
    # What is accepted and cannot be sent to a service is an error too: the next insertion sends it.
    doubtful = {
        table for table, code, was_hit in evidence.insertions if was_hit or (code and _is_remote(evidence))
    } - accepted
    for more in chain.from_iterable(combinations(doubtful, size) for size in range(len(doubtful) + 1)):
        expected = Counter()
        for table in accepted | set(more):
            expected |= Counter(row.n for row in evidence.scenario.tables[table].rows)
        if found == expected:
            break
    else:
        yield (
            f"the tasks are not those of the accepted insertions {accepted} and of any of the killed ones {doubtful}: "
            f"{sorted(found.elements())}"
        )
    was_hit = any(was_hit for _, _, was_hit in evidence.insertions)
    # Clearing up takes some disk, and the ledger, which a run of little patience may find busy then, too; the next insertion does it.
    could_not = evidence.scenario.fills_disk or (
        evidence.scenario.patience_seconds < 1 and any(code for _, code, _ in evidence.insertions)
    )
    if evidence.open_insertions and not (was_hit or could_not):
        yield f"{evidence.open_insertions} insertions are neither accepted nor cleared away, and none was killed"


def every_task_came_to_its_end(evidence):
    """No task waits, or runs for nobody."""
    for task in evidence.tasks:
        if task.state not in (State.SUCCEEDED, State.FAILED, State.KILLED):
            yield f"{task.task_id} ({task.kind}) is left {task.state.word}"
        if task.state is State.KILLED and not _commanded(evidence, "purge_queue"):
            yield f"{task.task_id} was killed, and nobody purged"
        if task.holder is not None:
            yield f"{task.task_id} has ended and is held by worker {task.holder}"


def none_succeeded_twice(evidence):
    """One success per task at most, its last attempt; more for a call whose parents have other results since."""
    again = graphs.run_again_with_reason(evidence) if evidence.scenario.graph else set()
    for task in evidence.tasks:
        successes = [one.number for one in task.attempts if one.outcome is Outcome.SUCCEEDED]
        if len(successes[-1:] if task.n in again else successes) != int(task.state is State.SUCCEEDED):
            yield f"{task.task_id} is {task.state.word} and has succeeded in attempts {successes}"
        if successes and successes[-1] != task.attempt:
            yield f"{task.task_id} succeeded in attempt {successes[-1]}, but its last one is {task.attempt}"
        numbers = [one.number for one in task.attempts]
        is_late = _is_remote(evidence) and task.state is State.SUCCEEDED  # of an attempt that was taken for lost
        if numbers and numbers[-1] > task.attempt and not is_late:
            yield f"{task.task_id} is at attempt {task.attempt}, and has a record of attempt {numbers[-1]}"


def successes_are_true(evidence):
    """What succeeded in the ledger really ran to its end, that very attempt, and gave the right result."""
    for task in evidence.tasks:
        for one in task.attempts:
            if one.outcome is not Outcome.SUCCEEDED:
                continue
            ran = range(
                1 if _is_remote(evidence) else one.number, one.number + 1
            )  # a late success gets the next free number
            if not any(evidence.notes["ended", task.task_id, number, task.n] for number in ran):
                yield f"{task.task_id} attempt {one.number} succeeded, but the task never came to its end"
            if json.loads(one.result or "null") != work.right_result(task.n, task.kind):
                yield f"{task.task_id} attempt {one.number} has the wrong result {(one.result or '')[:60]}"
            may_be_lost = not one.output and any(
                isinstance(step.act, Kill) for step in evidence.scenario.steps
            )  # with its runner
            if task.kind == "print" and f"task {task.n} prints\n" not in (one.output or "") and not may_be_lost:
                yield f"{task.task_id} attempt {one.number} has lost what it printed: {one.output!r}"
            if task.kind != "print" and one.output:
                yield f"{task.task_id} attempt {one.number} has got what another printed: {one.output!r}"


def failures_are_explained(evidence):
    """Each attempt ended as its kind of task does, or as something that went wrong explains; retries are as the caps say."""
    caps = _caps(evidence)
    excuses = _excuses(evidence)
    limit = float(dict(evidence.scenario.settings).get("MAX_RUNTIME_SECONDS", "inf"))
    for task in evidence.tasks:
        tried = Counter()
        for one in task.attempts:
            right = work.right_end(task.kind, one.number)
            was_too_long = one.outcome is Outcome.TIMEOUT and one.elapsed_seconds > limit
            # a large value could not be written
            was_full = task.is_call and evidence.scenario.fills_disk and one.outcome is Outcome.EXCEPTION
            if one.outcome not in (right, *excuses) and not was_too_long and not was_full:
                yield f"{task.task_id} ({task.kind}) attempt {one.number}: {one.outcome.word} is not explained by anything"
            if one.number > task.tries_from:
                tried[one.outcome] += 1
            if one.outcome is right is Outcome.EXIT and one.exit_code not in (work.EXIT_CODES[task.kind], -9, -6):
                yield f"{task.task_id} attempt {one.number} has exit code {one.exit_code}"
        last = task.attempts[-1].outcome if task.attempts else None
        is_final = task.kind == "fail" and last is Outcome.EXCEPTION
        for outcome, cap in caps.items():
            failed_so = task.state is State.FAILED and last is outcome and not is_final
            most = cap + 1 if failed_so else cap
            if task.kind == "fail" and outcome is Outcome.EXCEPTION and is_final:
                most = 1
            fewest = most if failed_so else 0
            if (
                _is_remote(evidence) and outcome is not Outcome.LOST
            ):  # some have the same number, of which one is recorded
                began = sum(
                    n for (word, task_id, *_), n in evidence.notes.items() if (word, task_id) == ("began", task.task_id)
                )
                fewest = min(fewest, tried[outcome] if began >= fewest else most)
            if outcome is Outcome.LOST and cap:
                most += 1  # the first loss with a worker, not with a slot, is free
            if _is_remote(evidence):
                most = 2 * most + 2  # a message that was handed out twice makes two of the task, each with its tries
            if not fewest <= tried[outcome] <= most:
                yield f"{task.task_id} ({task.kind}) is {task.state.word} after {_listed(task)}; the cap of {outcome.word} is {cap}"
        if task.state is State.FAILED and task.failure is not Outcome.UPSTREAM:
            kind = Outcome.EXCEPTION if last is Outcome.RETRY else last
            if task.failure is not kind or task.failure not in FAILURE_KINDS or last not in caps:
                yield f"{task.task_id} failed of {task.failure.word}, its attempts say {_listed(task)}"


def attempts_are_begun_once(evidence):
    """An attempt runs once; only if a slot was killed may what it held run again under the same number.

    A pause may do the same: if its end reaches a runner just when the slot has made it stand still to see what it has begun. A service may
    hand a message out twice, and so the same attempts.
    """
    if _is_remote(evidence) or any(isinstance(step.act, Kill | Pause) for step in evidence.scenario.steps):
        return
    for (word, task_id, attempt, _), times in evidence.notes.items():
        if times > 1:
            yield f"{task_id} attempt {attempt} {word} {times} times"


def interruptions_cost_nothing(evidence):
    """The numbers of attempts that the ledger knows nothing of are not more than the leases that were lost."""
    if (
        _is_remote(evidence)
        or _commanded(evidence, "release")
        or any(isinstance(step.act, Kill | Signal) for step in evidence.scenario.steps)
    ):
        return
    for task in evidence.tasks:
        if len(task.attempts) != task.attempt and task.state is not State.KILLED:
            yield f"{task.task_id} is at attempt {task.attempt}, the ledger has {_listed(task)}"


def nothing_is_left(evidence):
    """No process, no mount, no file that should not be there."""
    for pid, line in evidence.left.items():
        yield f"process {pid} is left: {line}"
    for name in evidence.files:
        expected = name.startswith(("table", "jobs/chaos", "__pycache__/task.")) or name in (
            "task.py",
            "config/task.env",
            "events.jsonl",
        )
        if not expected:
            yield f"the file {name} is left"


def processes_ended_properly(evidence):
    """Everything that was not killed ended with a code that means something, and without a traceback."""
    for what, code, was_hit, text in evidence.processes:
        too_early = "\nKeyboardInterrupt\n" in f"{text}\n" and "Worker for job" not in text and _signalled(evidence)
        if not too_early and ("Traceback (most recent call last)" in text or "Fatal Python error" in text):
            yield f"a {what} printed a traceback:\n{text.rstrip()}"
        if what == "monitor" and evidence.scenario.place and "has no event queue" in text:
            continue  # the tasks had just moved to the ledger
        if code not in (0, 1, 130) and not was_hit and not (code in (-2, -15, -1) and _signalled(evidence)):
            yield f"a {what} ended with {code}:\n{text.rstrip()}"


def events_are_written_once(evidence):
    """The event file tells of each success once at most; only a killed worker leaves one out or half written."""
    completed = Counter()
    for line in evidence.events:
        try:
            event = json.loads(line)
        except ValueError:
            if not _was_killed(evidence) and not evidence.scenario.fills_disk:
                yield f"not an event: {line[:200]!r}"
            continue
        if event["event_type"] == "task_completed" and not event["retry"]:
            completed[event["task_id"]] += 1
    known = {task.task_id for task in evidence.tasks if task.state is State.SUCCEEDED}
    for task_id, times in completed.items():
        if times > 1 or task_id not in known:
            yield f"{times} events say that {task_id} is completed"
    if evidence.events and not (_was_killed(evidence) or evidence.scenario.fills_disk) and completed.keys() != known:
        yield f"no event says that these are completed: {known - completed.keys()}"


CHECKS = (
    file_is_whole,
    counts_add_up,
    insertions_are_whole,
    every_task_came_to_its_end,
    none_succeeded_twice,
    successes_are_true,
    failures_are_explained,
    attempts_are_begun_once,
    interruptions_cost_nothing,
    nothing_is_left,
    processes_ended_properly,
    events_are_written_once,
)


def _caps(evidence):
    settings = dict(evidence.scenario.settings)
    names = {
        Outcome.EXCEPTION: "EXCEPTION",
        Outcome.TIMEOUT: "TIMEOUT",
        Outcome.EXIT: "EXIT",
        Outcome.LOST: "LOST",
        Outcome.RETRY: "REQUEST",
    }
    return {outcome: int(settings[f"RETRIES_ON_{name}"]) for outcome, name in names.items()}


def _excuses(evidence):
    """Ends that what went wrong explains, whatever the kind of the task."""
    settings = dict(evidence.scenario.settings)
    acts = [step.act for step in evidence.scenario.steps]
    excuses = set()
    if float(settings["LEASE_SECONDS"]) < SHORT_LEASE_SECONDS or _is_remote(evidence):
        excuses.add(Outcome.LOST)
    for act in acts:
        match act:
            case Kill():
                excuses |= {Outcome.LOST, Outcome.EXIT}
            case Jump() | FullDisk() | Busy():
                excuses.add(Outcome.LOST)
    if _signalled(evidence) or any(
        "SIMULATE_SPOT_TERMINATION_AFTER_SECONDS" in dict(getattr(act, "settings", ())) for act in acts
    ):
        excuses.add(Outcome.INTERRUPTED)
    return excuses


def _signalled(evidence):
    """Whether workers were asked to stop; at the end, those that wait for more are, and all of a queue at a service."""
    if _is_remote(evidence):
        return True
    acts = [step.act for step in evidence.scenario.steps]
    return any(isinstance(act, Signal) or ("KEEP_WAITING", "true") in getattr(act, "settings", ()) for act in acts)


def _is_remote(evidence):
    return evidence.scenario.queue != "ledger"


def _commanded(evidence, name):
    return any(isinstance(step.act, Command) and step.act.words[0] == name for step in evidence.scenario.steps)


def _was_killed(evidence):
    """Whether a process was killed, be it by a signal to stop that came before it could be caught."""
    return any(was_hit or code < 0 for _, code, was_hit, _ in evidence.processes)


def _listed(task):
    return ", ".join(f"{one.number} {one.outcome.word}" for one in task.attempts) or "nothing"
