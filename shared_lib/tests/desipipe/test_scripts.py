"""Scripts over the API of desipipe."""

from shared_lib.tests.desipipe.scripts import run

MANAGER = "queue = Queue('test', base_dir='_tests')\ntm = TaskManager(queue)\n"


def script(text: str) -> str:
    """Return a script with a manager before its own lines, which begin at the margin."""
    return MANAGER + text


def test_a_call_is_a_future_and_an_edge_inside_containers_and_objects(tmp_path):
    text = script("""
class Box:
    def __init__(self, *items):
        self.items = items

@tm.python_app
def number(i):
    return i

@tm.python_app
def add(items, box=None, *more, factor=1):
    return factor * (sum(items['values']) + sum(sum(one) if isinstance(one, tuple) else one for one in box.items) + sum(more))

one, two, three = number(1), number(2), number(3)
total = add({'values': [one, two]}, Box(three, (one, 10)), two, 100, factor=number(2))
print(type(total) is Future, total.state, sorted(queue[total.id].require_ids) == sorted({one.id, two.id, three.id}))
spawn(queue)
print(total.result(), total.state, queue[total.id].kwargs['factor'].result())
""")
    assert run(tmp_path, text).splitlines() == ["True WAITING True", "238 SUCCEEDED 2"]


def test_arguments_and_results_are_anything_that_can_be_pickled(tmp_path):
    text = script("""
import numpy as np
class Model:
    def __init__(self, weights, rule):
        self.weights, self.rule = weights, rule

@tm.python_app
def fit(data, rule, size):
    import numpy as np
    return Model(np.full(size, data['x'].sum() * 1.), rule)

@tm.python_app
def predict(model, at):
    return model.rule(model.weights[0] * at), len(model.weights)

big = predict(fit({'x': np.arange(4)}, lambda value: value + 1, 300_000), at=2)
spawn(queue)
print(big.result())
""")
    assert run(tmp_path, text) == "(np.float64(13.0), 300000)\n"
    assert (tmp_path / "_tests" / "test.db").stat().st_size < 1_000_000


def test_output_and_errors_are_apart(tmp_path):
    text = script("""
@tm.python_app
def both(n):
    import sys
    print('out', end='')
    print('e' * n, file=sys.stderr)

@tm.bash_app
def shell(text):
    return ['bash', '-c', text]

@tm.python_app
def silent():
    return 1

@tm.python_app
def wrong(i):
    raise ValueError(f'number {i}')

many = 'head -c 200000 /dev/zero | tr "\\\\0" x >&2; echo end'
futures = both(3), shell('echo yes; echo no >&2; exit 3'), silent(), wrong(7), shell(many)
spawn(queue)
for one in futures[:3]:
    print([one.out(), one.err(), queue[one.id].errno])
lines = futures[3].err().splitlines()
print(lines[0], lines[-1], queue[futures[3].id].errno)
print(futures[4].out(), len(futures[4].err()), futures[4].state)
""")
    out, err = "yes\n", "no\nCommandExit: bash ended with code 3\n"
    assert run(tmp_path, text).splitlines() == [
        str(["out", "eee\n", 0]),
        str([out, err, 3]),
        str(["", "", 0]),
        "Traceback (most recent call last): ValueError: number 7 42",
        "end",
        " 8192 SUCCEEDED",
    ]


def test_each_manager_has_its_environment(tmp_path):
    text = """
    queue = Queue('test', base_dir='_tests')
    tm = TaskManager(queue, environ=Environment(data={'COLOUR_OF_A_MANAGER': 'red'}))
    tm2 = tm.clone(environ=Environment('base', dict(SIZE=3), command=['A=1', 'export TWICE=$((A + A))', 'echo noise']))

    def look():
        import os
        return [os.environ.get(name) for name in ('COLOUR_OF_A_MANAGER', 'SIZE', 'TWICE')]

    one, two = tm.python_app(look)(), tm2.python_app(lambda: __import__('os').environ['TWICE'])()

    @tm2.bash_app
    def shown():
        return ['sh', '-c', 'echo $SIZE $TWICE $COLOUR_OF_A_MANAGER']

    said = shown()
    spawn(queue)
    print(one.result(), two.result(), said.out(), end='')
    print(len(queue.managers()), queue.tasks(property='mid') == [tm.id, tm2.id, tm2.id])
    """
    assert run(tmp_path, text) == "['red', None, None] 2 3 2\n2 True\n"


def test_max_workers_is_kept_by_each_manager(tmp_path):
    text = """
    import os
    queue = Queue('test', base_dir='_tests')
    tm = TaskManager(queue, scheduler=dict(max_workers=3))
    tm2 = tm.clone(scheduler=dict(max_workers=1))

    def alone(name, i):
        # creates a file that no other task of this manager may find
        import os, time
        fd = os.open(name, os.O_CREAT | os.O_EXCL)
        time.sleep(.02)
        os.close(fd)
        os.unlink(name)

    @tm.python_app
    def together(i, n):
        # returns once as many tasks run at the same time
        import os, time
        open(f'here{i}', 'w').close()
        while sum(name.startswith('here') for name in os.listdir()) < n:
            time.sleep(.01)

    single = tm2.python_app(alone)
    futures = [together(i, 3) for i in range(3)] + [single('lock', i) for i in range(12)]
    spawn(queue)
    print({one.state for one in futures})
    """
    assert run(tmp_path, text) == "{'SUCCEEDED'}\n"


def test_descendants_of_a_failed_task_fail_and_name_it(tmp_path):
    text = script("""
@tm.python_app
def wrong():
    raise KeyError('lost')

@tm.python_app
def after(value):
    return value

first = wrong()
second = after(after(first))
other = after(5)
spawn(queue)
print(second.result(), second.state, other.result())
print(first.id in second.err(), "KeyError: 'lost'" in second.err())
""")
    assert run(tmp_path, text).splitlines() == ["None FAILED 5", "True True"]


def test_the_same_script_again_runs_only_what_changed(tmp_path):
    text = script("""
import sys

SCALE = 2

def helper(x):
    return x * SCALE

@tm.python_app
def scaled(x):
    return helper(x)

@tm.python_app
def total(values):
    return sum(values)

@tm.python_app
def aside(x):
    return x  # as it is

answer = total([scaled(i) for i in range(3)])
aside(1)
fresh = queue.counts(state=['PENDING', 'WAITING'])
spawn(queue)
print(fresh, queue.counts(), answer.result())
""")
    assert run(tmp_path, text) == "5 5 6\n"
    assert run(tmp_path, text) == "0 5 6\n"
    assert run(tmp_path, text.replace("import sys", "import os\n\n").replace("# as it is", "# as it was")) == "0 5 6\n"
    assert run(tmp_path, text.replace("SCALE = 2", "SCALE = 3")) == "4 9 9\n"
    assert run(tmp_path, text.replace("return x * SCALE", "return x * SCALE + 1")) == "4 13 9\n"
    assert run(tmp_path, text.replace("return sum(values)", "return -sum(values)")) == "1 14 -6\n"


def test_name_and_state_keep_results_of_earlier_code(tmp_path):
    first = script("""
@tm.python_app
def attempt(i):
    if i >= 2:
        raise ValueError(str(i))
    return i

futures = [attempt(i) for i in range(4)]
spawn(queue)
print([one.state for one in futures], [one.err()[-14:] for one in futures[2:]])
""")
    assert run(tmp_path, first).splitlines() == [
        "['SUCCEEDED', 'SUCCEEDED', 'FAILED', 'FAILED'] ['ValueError: 2\\n', 'ValueError: 3\\n']"
    ]
    second = script("""
@tm.python_app(skip=True)
def skipped(i):
    return i

@tm.python_app(name=True, state='SUCCEEDED')
def attempt(i):
    return i + 10

print(skipped(1), [attempt(i).id for i in range(4)] == [attempt.task_manager.queue.tasks(name='attempt')[i].id for i in (0, 1, 4, 5)])
spawn(queue)

@tm.python_app(name='attempt', state='SUCCEEDED')
def other(i):
    return i + 10

print([other(i).result() for i in range(2)])

@tm.bash_app(name=True)
def attempt():
    return None

print([attempt().state for i in range(4)])
""")
    again = second.replace(
        "print(skipped",
        "futures = [attempt(i) for i in range(4)]\nspawn(queue)\nprint([f.result() for f in futures])\nprint(skipped",
    )
    assert run(tmp_path, second).splitlines() == [
        "None True",
        "[0, 1]",
        "['SUCCEEDED', 'SUCCEEDED', 'FAILED', 'FAILED']",
    ]
    assert run(tmp_path, again).splitlines()[0] == "[0, 1, 12, 13]"


def test_a_function_can_be_defined_again_as_in_a_notebook(tmp_path):
    text = script("""
@tm.python_app
def f(i):
    return i

first = f(1)

@tm.python_app
def f(i):
    return -i

second = f(1)
spawn(queue)
print(first.result(), second.result(), f(1).id == second.id, f(i=1).id == second.id)
""")
    assert run(tmp_path, text) == "1 -1 True True\n"


def test_a_changed_manager_takes_over_what_has_not_begun(tmp_path):
    text = """
    queue = Queue('test', base_dir='_tests')
    tm = TaskManager(queue, environ=dict(WHO='first'), scheduler=dict(max_workers=4))

    @tm.python_app
    def who(i):
        import os; return os.environ['WHO']

    futures = [who(i) for i in range(3)]
    print(queue.counts(), {task.app.task_manager.scheduler['max_workers'] for task in queue.tasks()})
    """
    assert run(tmp_path, text) == "3 {4}\n"
    changed = text.replace("first", "second").replace("max_workers=4", "max_workers=2")
    ran = changed.replace("print(", "spawn(queue)\n    print([one.result() for one in futures], ")
    assert run(tmp_path, changed) == "3 {2}\n"
    assert run(tmp_path, ran) == "['second', 'second', 'second'] 3 {2}\n"
    assert run(tmp_path, text) == "3 {2}\n"  # what has ended stays as it was


def test_modules_beside_the_script_are_imported_by_workers(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "beside.py").write_text(
        "from taskfleet.desipipe import Queue, TaskManager, spawn\n"
        "queue = Queue('test', base_dir='_tests')\ntm = TaskManager(queue)\n"
        "def double(x):\n    return 2 * x\n"
        "@tm.python_app\ndef doubled(x):\n    return double(x)\n"
        "early = doubled(21)\nspawn(queue)\n"
    )
    text = """
    import beside

    @beside.tm.python_app
    def more(x):
        return beside.doubled(x) + beside.double(1)

    later = more(beside.early)
    spawn(beside.queue)
    print(beside.early.result(), later.result(), beside.queue.counts())
    """
    assert run(tmp_path, text) == "42 86 2\n"


def test_stop_at_error_leaves_the_rest(tmp_path):
    text = script("""
@tm.python_app
def step(i):
    if i == 1:
        raise RuntimeError
    import time
    time.sleep(.3)

futures = [step(i) for i in range(300)]
spawn(queue, mode='stop_at_error')
print(queue.counts(state='FAILED'), queue.counts(state='PENDING') > 200, queue.counts(state='RUNNING'))
""")
    assert run(tmp_path, text) == "1 True 0\n"


def test_spawn_in_another_process(tmp_path):
    text = script("""
@tm.python_app
def slow(i):
    return i

futures = [slow(i) for i in range(3)]
spawn(queue, spawn=True)
print([one.result(timeout=200) for one in futures], futures[0].result(timeout=0))
""")
    assert run(tmp_path, text) == "[0, 1, 2] 0\n"


def test_a_result_that_does_not_come_is_none(tmp_path):
    text = script("""
@tm.python_app
def f():
    return 1

print(f().result(timeout=.05), f().out(timeout=0))
""")
    assert run(tmp_path, text) == "None None\n"


def test_queues_are_listed_cleared_and_deleted(tmp_path):
    text = """
    import pickle
    queue = Queue('my/first', create=True)
    tm = TaskManager(queue.filename)
    print(queue.filename == tm.queue.filename, queue.filename.endswith('/queues/my/first.db'))

    @tm.python_app
    def f(i):
        return i

    f(1), f(2), f(1)
    print(queue.counts(), queue.counts(state='PENDING'), queue.summary()['PENDING'])
    print(queue.tasks(name='f', index=1, property=('state', 'index')), queue.tasks(tid='x'), len(queue.tasks(name=['g'])))
    print(pickle.loads(pickle.dumps(queue)).counts())
    print(str(queue).splitlines()[1:3])
    queue.clear()
    print(queue.counts(), f(1).state)
    queue.delete()
    import os
    print(os.listdir(queue.dirname))
    Queue('my/first', create=False)
    """
    error = run(tmp_path, text, fails=True)
    assert "UsageError: There is no queue" in error
    assert run(tmp_path, text.replace("Queue('my/first', create=False)", "")).splitlines() == [
        "True True",
        "2 2 2",
        "('PENDING', 1) None 0",
        "2",
        "['WAITING   : 0', 'PENDING   : 2']",
        "0 PENDING",
        "[]",
    ]


def test_mistakes_are_one_clear_error(tmp_path):
    cases = {
        "TaskManager(queue, scheduler=dict(workers=3))": "the scheduler has no option workers; it has max_workers.",
        "TaskManager(queue, provider='cloud')": "There is no provider 'cloud'",
        "TaskManager(queue, provider=dict(mpiprocs_per_worker=0))": "mpiprocs_per_worker is 0; it is a number of MPI processes",
        "TaskManager(queue, provider=dict(mpiexec='mpirun {cmd}'))": "mpiexec is 'mpirun {cmd}'; it is a command such as",
        "TaskManager(queue, provider=dict(provider='slurm', time='soon'))": "time is 'soon'; it is a time limit",
        "TaskManager(queue, provider=dict(provider='slurm', nodes_per_worker=0))": "nodes_per_worker is 0; it is a number of nodes",
        "TaskManager(queue, provider=dict(provider='slurm', nodes=2))": "the provider slurm has no option nodes",
        "tm.clone(workers=1)": "A manager has no workers",
        "Environment('nowhere')": "There is no environment 'nowhere'",
        "FileManager()": "taskfleet.desipipe has no FileManager",
        "Queue('a b')": "The name of a queue has letters",
        "spawn(queue, mode='fast')": "There is no mode 'fast'",
        "tm.python_app(lambda x: x)(TaskManager(Queue('other')).python_app(lambda: 1)())": "belongs to the queue",
        "tm.python_app(print)": "An app is made of a function",
        "import os\nos.environ['PATH'] = ''\ntm.clone(provider='nersc').python_app(lambda: 1)()\nspawn(queue)": "no command sinfo here",
        "tm.clone(environ=Environment(command=['echo why >&2', 'false'])).python_app(lambda: 1)()\nspawn(queue)": "failed with code 1: why",
    }
    for line, message in cases.items():
        last = run(tmp_path, script(line), fails=True).splitlines()[-1]
        assert message in last, line


def test_a_task_takes_the_results_of_thousands(tmp_path):
    text = script("""
@tm.python_app
def number(i):
    return i

@tm.python_app
def total(values):
    return sum(values)

one = total([number(1)] * 3000)
spawn(queue)
print(one.result(), queue[one.id].require_ids == [number(1).id])
""")
    assert run(tmp_path, text) == "3000 True\n"


def test_a_module_that_waits_for_results_is_an_error_of_the_task(tmp_path):
    (tmp_path / "beside.py").write_text(
        "from taskfleet.desipipe import Queue, TaskManager, spawn\n"
        "tm = TaskManager(Queue('test', base_dir='_tests'))\n"
        "early = tm.python_app(lambda: 3)()\nspawn(tm.queue)\nearly.result()\n"
        "def double(x):\n    return 2 * x\n"
    )
    text = """
    from beside import double, tm

    one = tm.python_app(lambda x: double(x))(1)
    spawn(tm.queue)
    print(one.state, one.err())
    """
    assert "FAILED " in (text := run(tmp_path, text))
    assert "waits for the result of a call while it is imported" in text


def test_a_killed_worker_is_replaced(tmp_path):
    text = script("""
@tm.python_app
def step(i):
    import os, signal
    if i == 1 and not os.path.exists('killed'):
        open('killed', 'w').close()
        os.kill(int(open('worker').read()), signal.SIGKILL)
        import time
        time.sleep(100)
    return i

@tm.python_app
def name_worker():
    # the supervisor is above the process of the task, its slot's runner, the slot and the process that imported the function
    import os
    pid = os.getpid()
    while 'taskfleet.desipipe.working' not in open(f'/proc/{pid}/cmdline').read():
        pid = int(open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[1])
    open('worker', 'w').write(str(pid))

name_worker()
spawn(queue)
futures = [step(i) for i in range(3)]
setup_logging()
spawn(queue)
print([one.result() for one in futures])
""")
    lines = run(
        tmp_path,
        text.replace("name_worker()\nspawn(queue)\nfutures", "named = name_worker()\nfutures")
        .replace("def step(i):", "def step(i, named):")
        .replace("step(i) for", "step(i, named) for"),
    ).splitlines()
    assert "was killed by signal 9; another one is started." in lines[0]
    assert lines[-1] == "[0, 1, 2]"


def test_workers_end_with_a_killed_spawn(tmp_path):
    text = script("""
import os, signal, subprocess, sys, time

@tm.python_app
def kill_spawn(pid):
    import os, signal
    os.kill(pid, signal.SIGKILL)

@tm.python_app
def rest(i, first):
    return i

pid = os.fork()
if pid == 0:
    first = kill_spawn(os.getpid())
    futures = [rest(i, first) for i in range(3)]
    spawn(queue)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
deadline = time.monotonic() + 100
while queue.database.rows('SELECT 1 FROM worker WHERE ended_at IS NULL') and time.monotonic() < deadline:
    time.sleep(.1)
print(queue.database.rows('SELECT end_reason FROM worker'), queue.counts(state='RUNNING'))
spawn(queue)
print(queue.summary()['SUCCEEDED'])
""")
    assert run(tmp_path, text).splitlines() == ["[('stopped',)] 0", "4"]
