"""The graph of a run: the script that makes it, and what must be true of it when all is over."""

import os
import sys
from collections import defaultdict
from itertools import pairwise

from taskfleet.errors import TaskfleetError
from taskfleet.graph import app, constant, flow, succeeded
from taskfleet.references import Store, decode
from taskfleet.tasks import Outcome, State


def drive(blocks):
    """Make the calls of a graph, as a script of a user does that does not wait for them."""
    sys.path.insert(0, os.getcwd())
    import task

    call = app(task.run_call)
    try:
        with flow():
            made = []
            for block in blocks:
                columns = {name: [getattr(row, name) for row in block.rows] for name in ("n", "kind", "seconds")}
                if block.one_of is not None:
                    columns["one"] = made[block.one_of]
                if block.all_of is not None:
                    columns["all_of"] = constant(made[block.all_of])
                if block.good_of is not None:
                    columns["good_of"] = constant(succeeded(made[block.good_of]))
                made.append(call.map(**columns))
    except TaskfleetError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def read_result(text, results_path):
    """Return a result that may be in a file."""
    return None if text is None else decode(text, Store(results_path))


def parents_of(blocks):
    """Return the numbers of the parents of each call: of the one, of all, and of the good ones."""
    numbers = [[row.n for row in block.rows] for block in blocks]

    def of(index):
        return [] if index is None else numbers[index]

    return {
        n: ([of(block.one_of)[place]] if block.one_of is not None else [], of(block.all_of), of(block.good_of))
        for block, own in zip(blocks, numbers, strict=True)
        for place, n in enumerate(own)
    }


def graph_is_whole(evidence):
    """The ledger has each call once."""
    wanted = sorted(row.n for block in evidence.scenario.graph for row in block.rows)
    found = sorted(task.n for task in evidence.tasks if task.is_call)
    if found != wanted:
        yield f"the calls of the graph are {wanted}, the ledger has {found}"


def parents_came_first(evidence):
    """No call began before all whose success it needs had come to their end."""
    parents = parents_of(evidence.scenario.graph)
    ended = set()
    for word, task_id, attempt, n in evidence.noted:
        if word == "ended":
            ended.add(n)
        elif n in parents:
            one, all_of, _ = parents[n]
            early = {*one, *all_of} - ended
            if early:
                yield f"{task_id} ({n}) attempt {attempt} began before its parents {sorted(early)} had succeeded"


def results_came_from_the_parents(evidence):
    """A call got the result of each parent in its order; of those that need not succeed, none that did not."""
    parents = parents_of(evidence.scenario.graph)
    state = {task.n: task.state for task in evidence.tasks}
    for task in evidence.tasks:
        for one in task.attempts if task.is_call else ():
            if one.outcome is not Outcome.SUCCEEDED:
                continue
            *needed, good = one.value["parents"]
            *expected, possible = parents[task.n]
            if needed != expected:
                yield f"{task.task_id} ({task.n}) got the results of {needed}, not of {expected}"
            if good != [n for n in possible if n in set(good) and state[n] is State.SUCCEEDED]:
                yield f"{task.task_id} ({task.n}) got the results of {good}, of {possible}"


def run_again_with_reason(evidence):
    """Return the numbers of the calls that rightly succeeded more than once, since they had other results of parents each time.

    A failed parent that need not succeed was put back, and succeeded then; or a parent has itself succeeded more than once.
    """
    found = set()
    given = {
        task.n: [one.value["parents"] for one in task.attempts if one.outcome is Outcome.SUCCEEDED]
        for task in evidence.tasks
        if task.is_call
    }
    for n, (one, all_of, good_of) in sorted(parents_of(evidence.scenario.graph).items()):  # parents first
        times = given.get(n, [])
        differ = all(before != after for before, after in pairwise(times))
        if len(times) > 1 and (differ or not found.isdisjoint([*one, *all_of, *good_of])):
            found.add(n)
    return found


def failures_were_followed(evidence):
    """A call whose parent did not succeed has failed of that or was killed, and no other has failed so."""
    parents = parents_of(evidence.scenario.graph)
    state = {task.n: task.state for task in evidence.tasks}
    for task in evidence.tasks:
        if not task.is_call:
            continue
        one, all_of, _ = parents[task.n]
        broken = [n for n in {*one, *all_of} if state[n] is not State.SUCCEEDED]
        is_upstream = task.failure is Outcome.UPSTREAM
        if broken and not (is_upstream or task.state is State.KILLED):
            yield f"{task.task_id} ({task.n}) is {task.state.word}, although {broken} did not succeed"
        if is_upstream and not broken:
            yield f"{task.task_id} ({task.n}) failed because of others, and all its parents succeeded"


def each_parent_counted_once(evidence):
    """What a call waits for is the number of its parents that are not there: none was released twice."""
    parents = parents_of(evidence.scenario.graph)
    state = {task.n: task.state for task in evidence.tasks}
    for task in evidence.tasks:
        if not task.is_call:
            continue
        one, all_of, good_of = parents[task.n]
        needs = defaultdict(lambda: True)
        for n in good_of:
            needs[n] = False
        for n in (*one, *all_of):
            needs[n] = True
        missing = sum(
            state[n] is not State.SUCCEEDED if success else state[n] in (State.WAITING, State.PENDING, State.RUNNING)
            for n, success in needs.items()
        )
        if task.missing != missing:
            yield f"{task.task_id} ({task.n}) counts {task.missing} missing parents, and {missing} are"


CHECKS = (
    graph_is_whole,
    parents_came_first,
    results_came_from_the_parents,
    failures_were_followed,
    each_parent_counted_once,
)
