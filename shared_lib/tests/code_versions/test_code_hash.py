"""A version of code changes with what a function reaches, and with nothing else."""

import linecache
import textwrap

import pytest
from taskfleet.code_versions.describing import changes, describe_code
from taskfleet.code_versions.source_files import read_file
from taskfleet.errors import FunctionError

from shared_lib.tests.code_versions.projects import imported, version, write

TASK = '''
"""What the module is for."""
import math
from helper import scale as resize

LIMIT = 3
UNUSED = 4


def run(x, y=LIMIT):
    """Return a number."""
    total = 0
    for i in range(y):
        total += inner(i) * resize(x)
    return math.sqrt(total)


def inner(i):
    return i + 1


def unrelated():
    return UNUSED
'''
HELPER = """
FACTOR = 2.5


def scale(x):
    return deeper(x) * FACTOR


def deeper(x):
    return x - 1


def old():
    return 0
"""
FILES = {"task.py": TASK, "helper.py": HELPER}


def changed(tmp_path, before, after, **options):
    """Returns the sentences about two versions; that there are some must agree with the digests."""
    old, new = version(tmp_path, before, **options), version(tmp_path, after, **options)
    found = changes(old.parts, new.parts)
    assert (old.digest != new.digest) == bool(found)
    return found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    total = 0\n", "    # a comment\n\n    total = (\n        0)  # another\n"),
        ('    """Return a number."""\n', ""),
        ('    """Return a number."""\n', '    """Return another number."""\n    pass\n'),
        ('"""What the module is for."""\n', "\n\n\n\n"),
        ("def run(x, y=LIMIT):", "def run(x: float, y: int = LIMIT) -> float:"),
        ("    total = 0\n", "    total: int = 0\n"),
        ("LIMIT = 3", "LIMIT: int = 0x3"),
        ("UNUSED = 4", "UNUSED = 5"),
        ("return UNUSED", "return -UNUSED"),
        ("import math", "import math, json"),
    ],
)
def test_what_does_not_change_the_behaviour_does_not_change_the_version(tmp_path, old, new):
    assert old in TASK
    assert changed(tmp_path, FILES, FILES | {"task.py": TASK.replace(old, new)}) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "sentences"),
    [
        ("task.py", "total = 0", "total = 1", ["run changed"]),
        ("task.py", "y=LIMIT", "y=2 + LIMIT", ["run changed"]),
        ("task.py", "i + 1", "i + 2", ["inner changed"]),
        ("task.py", "LIMIT = 3", "LIMIT = 4", ["LIMIT changed"]),
        ("task.py", "LIMIT = 3", "LIMIT = 3.0", ["LIMIT changed"]),
        ("task.py", "UNUSED = 4", "LIMIT += 1", ["LIMIT changed"]),
        ("task.py", "import math", "import cmath as math", ["math is cmath instead of math"]),
        ("helper.py", "FACTOR = 2.5", "FACTOR = 2.6", ["helper.FACTOR changed"]),
        ("helper.py", "x - 1", "x - 2", ["helper.deeper changed"]),
        ("helper.py", "x - 1", "x - old()", ["helper.deeper changed", "helper.old is new"]),
        ("helper.py", " * FACTOR", "", ["helper.FACTOR is no longer used", "helper.scale changed"]),
        (
            "task.py",
            "scale as",
            "old as",
            [
                *("helper.FACTOR is no longer used", "helper.deeper is no longer used", "helper.old is new"),
                *("helper.scale is no longer used", "resize is helper.old instead of helper.scale"),
            ],
        ),
    ],
)
def test_each_piece_of_code_that_is_reached_counts(tmp_path, file, old, new, sentences):
    assert old in FILES[file]
    assert changed(tmp_path, FILES, FILES | {file: FILES[file].replace(old, new)}) == sentences


def test_an_import_that_hides_a_builtin_is_a_change(tmp_path):
    before = "def run(x):\n    return open(x)\n"
    assert changed(tmp_path, before, f"from gzip import open\n{before}") == ["open is new"]


def test_parts_and_sources_have_names(tmp_path):
    found = version(tmp_path, FILES)
    assert found.name == "task.run"
    assert list(found.parts) == [
        *("helper.FACTOR", "helper.deeper", "helper.scale"),
        *("task.LIMIT", "task.inner", "task.math", "task.resize", "task.run"),
    ]
    assert found.parts["task.resize"] == "= helper.scale"
    assert found.sources["helper.deeper"] == "def deeper(x):\n    return x - 1"
    assert found.not_followed == ()


#: Code with a function ``run``, and a place in it that counts (or that does not).
REACHED = {
    "method": ("class A:\n    def f(self): return 1\ndef run(): return A().f()", "return 1", ["A.f changed"]),
    "class variable": ("class A:\n    limit = 1\ndef run(): return A().limit", "= 1", ["A changed"]),
    "field of a class": ("class A:\n    x: int\ndef run(): return A", "int", ["A changed"]),
    "field under a condition": ("class A:\n    if True:\n        x: int\ndef run(): return A", "int", ["A changed"]),
    "base": ("def g(): return 1\nclass B:\n    x = g()\nclass A(B): pass\ndef run(): return A", "return 1", ["g changed"]),
    "metaclass": ("class M(type):\n    x = 1\nclass A(metaclass=M): pass\ndef run(): return A", "x = 1", ["M changed"]),
    "decorator": ("def d(f):\n    x = 1\n    return f\n@d\ndef run(): pass", "x = 1", ["d changed"]),
    "argument of a decorator": ("def d(n): return lambda f: f\n@d(1)\ndef run(): pass", "@d(1", ["run changed"]),
    "default of a keyword": ("N = 1\ndef run(*, n=N): return n", "N = 1", ["N changed"]),
    "nested function": ("N = 1\ndef run():\n    def g(): return N\n    return g()", "N = 1", ["N changed"]),
    "comprehension": ("N = [1]\ndef run(): return [n for n in N]", "N = [1", ["N changed"]),
    "condition of a comprehension": ("N = 1\ndef run(x): return {n for n in x if n > N}", "N = 1", ["N changed"]),
    "lambda": ("N = 1\nf = lambda x: x + N\ndef run(): return f(1)", "N = 1", ["N changed"]),
    "f-string": ("N = 1\ndef run(): return f'{N:{N}}'", "N = 1", ["N changed"]),
    "recursion": ("def run(n): return n and other(n - 1)\ndef other(n): return run(n - 1) + 1", "+ 1", ["other changed"]),
    "alias": ("def g(): return 1\nh = g\nk = h\ndef run(): return k()", "return 1", ["g changed"]),
    "first branch": ("import os\nif os.name == 'x':\n    N = 1\nelse:\n    N = 2\ndef run(): return N", "N = 1", ["N changed"]),
    "condition": ("import os\nif os.name == 1:\n    N = 1\nelse:\n    N = 2\ndef run(): return N", "== 1", ["N changed"]),
    "try": ("try:\n    def g(): return 1\nexcept OSError:\n    g = 2\ndef run(): return g", "return 1", ["g changed"]),
    "except": ("try:\n    import numpy1 as np\nexcept ImportError:\n    np = 1\ndef run(): return np", "np = 1", ["np changed"]),
    "loop": ("N = {}\nfor i in range(1):\n    N[i] = i\ndef run(): return N", "range(1", ["N changed", "i changed"]),
    "with": ("import io\nwith io.StringIO('1') as f:\n    N = f.read()\ndef run(): return N", "('1", ["N changed", "f changed"]),
    "item": ("N = {}\nN['x'] = 1\ndef run(): return N", "= 1", ["N changed"]),
    "item of an item": ("N = {1: {}}\nN[1]['x'] = 2\ndef run(): return N", "= 2", ["N changed"]),
    "attribute": ("def g(): return g.x\ng.x = 1\ndef run(): return g()", "= 1", ["g changed"]),
    "append": ("N = []\nN.append(1)\ndef run(): return N", "append(1", ["N changed"]),
    "pop": ("N = {}\nold = N.pop(1, 0)\ndef run(): return N", "pop(1", ["N changed"]),
    "shuffle": ("import random\nN = []\nrandom.Random(1).shuffle(N)\ndef run(): return N", "Random(1", ["N changed"]),
    "what an item reaches": ("def g(): return 1\nN = {}\nN['x'] = g\ndef run(): return N", "return 1", ["g changed"]),
    "del": ("N = M = 1\ndel M\ndef run(): return N", "= 1", ["N changed"]),
    "global": ("N = 0\ndef set_it():\n    global N\n    N = 1\ndef run(): return N", "N = 1", ["N changed"]),
    "unpacking": ("N, M = 1, 2\ndef run(): return N", "= 1", ["N changed"]),
    "walrus": ("print((N := 1), end='')\ndef run(): return N", ":= 1", ["N changed"]),
    "read before a class binds it": ("N = 1\nclass A:\n    N = N\ndef run(): return A.N", "N = 1", ["N changed"]),
    "method reads the module": ("N = 1\nclass A:\n    N = 5\n    def f(s): return N\ndef run(): return A().f()", "N = 1", ["N changed"]),
    "singledispatch": (
        "import functools\n@functools.singledispatch\ndef g(x): return 0\n@g.register\ndef _(x: int): return 1\ndef run(): return g(3)",
        "return 1",
        ["g changed"],
    ),
    "annotation for a decorator": ("def d(f): return f\n@d\ndef run(x: 'int'): pass", "int", ["run changed"]),
    "constant getattr": ("class A:\n    x = 1\ndef run(): return getattr(A, 'x')", "x = 1", ["A changed"]),
}  # fmt: skip
NOT_REACHED = {
    "local variable": ("N = 1\ndef run():\n    N = 2\n    return N", "N = 1"),
    "parameter": ("N = 1\ndef run(N): return N", "N = 1"),
    "parameter around": ("N = 1\ndef run(N):\n    def g(): return N\n    return g()", "N = 1"),
    "nonlocal": ("N = 1\ndef run():\n    N = 0\n    def g():\n        nonlocal N\n        N += 1\n    return g", "N = 1"),
    "variable of a comprehension": ("N = 1\ndef run(x): return [N for N in x]", "N = 1"),
    "variable of an exception": ("N = 1\ndef run():\n    try: pass\n    except OSError as N: print(N)", "N = 1"),
    "pattern": ("N = 1\ndef run(x):\n    match x:\n        case [N, *M]: return N", "N = 1"),
    "attribute": ("N = 1\ndef run(x): return x.N", "N = 1"),
    "text": ("N = 1\ndef run(): return 'N'", "N = 1"),
    "keyword": ("N = 1\ndef run(): return dict(N=3)", "N = 1"),
    "main": ("def run(): return N\nN = 2\nif __name__ == '__main__':\n    N = 1\n    print(run())", "N = 1"),
    "printing": ("N = 3\nprint(N, 1, end='\\r')\ndef run(): return N", "N, 1"),
    "statement of another name": ("N = []\nM = []\nM.append(1)\ndef run(): return N", "append(1"),
    "method of a constant": ("N = 'a'\nN.center(1)\ndef run(): return N", "center(1"),
    "annotation": ("T = 1\ndef run(x: 'T') -> 'T': return x", "T = 1"),
    "annotation of a property": ("class A:\n    @property\n    def x(self) -> 'T1': pass\ndef run(): return A", "T1"),
}  # fmt: skip


@pytest.mark.parametrize("name", REACHED)
def test_code_that_is_reached_counts(tmp_path, name):
    code, place, sentences = REACHED[name]
    assert code.count(place) == 1
    other = (
        place.replace("int", "float")
        if "int" in place
        else place.replace("2", "3")
        if "2" in place
        else place.replace("1", "7")
    )
    assert changed(tmp_path, code, code.replace(place, other)) == sentences


@pytest.mark.parametrize("name", NOT_REACHED)
def test_code_that_is_not_reached_does_not_count(tmp_path, name):
    code, place = NOT_REACHED[name]
    assert code.count(place) == 1
    assert changed(tmp_path, code, code.replace(place, place.replace("1", "7"))) == []


#: How ``run`` comes to a function of other modules, and that function's file.
IMPORTS = {
    "module": ("import a\ndef run(): return a.f()", "a.py"),
    "module under another name": ("import a as b\ndef run(): return b.f()", "a.py"),
    "name under another name": ("from a import f as g\ndef run(): return g()", "a.py"),
    "submodule": ("import p.a\ndef run(): return p.a.f()", "p/a.py"),
    "submodule from its package": ("from p import a\ndef run(): return a.f()", "p/a.py"),
    "submodule under another name": ("import p.a as b\ndef run(): return b.f()", "p/a.py"),
    "package": ("import p\ndef run(): return p.f()", "p/__init__.py"),
    "star": ("from a import *\ndef run(): return f()", "a.py"),
    "in the function": ("def run():\n    from p import a as b\n    return b.f()", "p/a.py"),
    "module around the function": ("def run():\n    import a\n    def g():\n        nonlocal a\n        a = a.f()\n    g()", "a.py"),
    "module in the function": ("def run():\n    import a\n    return (lambda: a.f())()", "a.py"),
    "alias of a module": ("import a\nb = a\ndef run(): return b.f()", "a.py"),
    "module as a value": ("import a\ndef run(): return vars(a)", "a.py"),
    "attribute with a constant name": ("import a\ndef run(): return getattr(a, 'f')()", "a.py"),
    "in the folder src": ("import s\ndef run(): return s.f()", "src/s.py"),
}  # fmt: skip


@pytest.mark.parametrize("name", IMPORTS)
@pytest.mark.parametrize("constant", ["2", "3"])
def test_functions_of_other_modules_are_reached(tmp_path, name, constant):
    task, file = IMPORTS[name]
    plain = "N = 1\ndef f(): return N * 2\ndef unused(): return 3\n"
    files = {"task.py": task, "p/__init__.py": "", "a.py": "f = 0\n", "p/a.py": "f = 0\n", "src/s.py": ""} | {
        file: plain
    }
    found = changed(tmp_path, files, files | {file: plain.replace(constant, "9")}, search_path=["src"])
    module = file.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    if constant == "2":
        assert found == [f"{module}.f changed"]
    else:  # a module that is used as a value may be used as a whole
        assert found == ([f"{module}.unused changed"] if name in ("module as a value", "alias of a module") else [])


def test_relative_imports_and_circles_of_modules_are_followed(tmp_path):
    files = {
        "task.py": "from p.a import f as run",
        "p/__init__.py": "from . import a",
        "p/a.py": "from .q import b\nfrom .q.b import *\nfrom p import a\ndef f(n): return b.g(n) + a.N + M\nN = 1\nK = 3\n",
        "p/q/__init__.py": "",
        "p/q/b.py": "from .. import a\n__all__ = ['M']\ndef g(n): return n and a.f(n - 1) - a.K\nM = 2\n",
    }  # fmt: skip
    for name, old, part in [
        ("p/a.py", "N = 1", "p.a.N"),
        ("p/a.py", "K = 3", "p.a.K"),
        ("p/q/b.py", "M = 2", "p.q.b.M"),
    ]:
        assert changed(tmp_path, files, files | {name: files[name].replace(old, old + "0")}) == [f"{part} changed"]


def test_star_imports_obey_all_and_underscores(tmp_path):
    files = {"task.py": "from a import *\ndef run(): return f() if 1 else g() + _h()\n"}
    found = version(tmp_path, files | {"a.py": "__all__ = ['f']\n__all__ += ['_h']\nf = _h = print\ng = 1\n"})
    assert list(found.parts) == ["a._h", "a.f", "task.run"]
    found = version(tmp_path, files | {"a.py": "f = _h = print\ng = 1\n"})
    assert list(found.parts) == ["a.f", "a.g", "task.run"]


def test_names_that_only_a_package_can_have_given_count_with_its_name(tmp_path):
    found = version(tmp_path, "from math import *\ndef run(): return sqrt(2)\n")
    assert found.parts["task.*"] == "= math.*"
    assert list(version(tmp_path, "from math import *\nN = 2\ndef run(): return abs(N)\n").parts) == [
        "task.N",
        "task.run",
    ]


def test_packages_and_the_library_do_not_count(tmp_path):
    files = {"task.py": "import a, b, taskfleet\ndef run(): return a.f(), b.f(), taskfleet.Retry()\n"}
    for folder in (".venv/lib", "env/lib/site-packages"):
        files |= {f"{folder}/a.py": "def f(): return 1\n", f"{folder}/b.py": "def f(): return 2\n"}
    found = version(tmp_path, files | {"shared_lib/src/x.py": ""}, search_path=[".venv/lib", "env/lib/site-packages"])
    assert found.parts.keys() == {"task.run", "task.a", "task.b", "task.taskfleet"}


def test_a_function_outside_of_the_project_is_its_name(tmp_path):
    assert describe_code(textwrap.dedent, tmp_path).parts == {"textwrap.dedent": "= textwrap.dedent"}
    assert describe_code(len, tmp_path).parts == {"builtins.len": "= builtins.len"}


def test_what_cannot_be_followed_is_listed_once(tmp_path):
    code = """
        import importlib, sys
        from importlib import import_module as load
        def run(x, name):
            getattr(x, "constant")
            getattr(x, name), getattr(x, name)
            exec("1"), eval("1")
            importlib.import_module(name)
            load(name)
            globals()[name] = sys.modules
            return helper(x)
        def helper(x):
            def eval(x): return x
            return eval(x)
    """
    found = version(tmp_path, textwrap.dedent(code))
    computed = ["6: getattr with a computed name", "7: eval", "7: exec", "8: importlib.import_module"]
    computed += ["9: importlib.import_module", "10: globals", "10: sys.modules"]
    assert sorted(found.not_followed) == sorted(f"task.py:{one}" for one in computed)


def test_attributes_that_no_statement_defines_are_listed_where_they_are_read(tmp_path):
    files = {
        "task.py": "import a, b\ndef run():\n    a.__name__\n    return a.x, b.x\n",
        "a.py": "",
        "b.py": "def __getattr__(n): pass",
    }
    found = version(tmp_path, files)
    assert found.not_followed == ("task.py:4: a.x is not defined by a statement of its module",)
    assert "b.__getattr__" in found.parts


def test_a_wrapper_of_this_library_does_not_count(tmp_path):
    project = write(tmp_path, {"task.py": "def plain(): return 1\n"})

    def ours(function):
        names = {"__name__": "taskfleet.somewhere", "function": function}
        exec(
            "def made(function):\n    def wrapper(): return function()\n    return wrapper\nwrapper = made(function)",
            names,
        )
        names["wrapper"].__wrapped__ = function
        return names["wrapper"]

    with imported(project, "task:plain") as plain:
        assert describe_code(ours(plain), project) == describe_code(plain, project)


def test_a_project_may_be_given_by_a_link(tmp_path):
    project = write(tmp_path, FILES)
    (tmp_path / "link").symlink_to(project)
    with imported(project) as function:
        direct = describe_code(function, project)
        assert describe_code(function, tmp_path / "link") == direct
    with imported(tmp_path / "link") as function:
        assert describe_code(function, project) == direct


def test_a_file_that_cannot_be_parsed_is_an_error(tmp_path):
    project = write(tmp_path, {"task.py": "def run():\n    import a\n    a.f()\n", "a.py": "x = 1\ndef f(:\n"})
    with (
        imported(project) as function,
        pytest.raises(FunctionError, match=r"a\.py, line 2: Python 3\.\d+\.\d+ cannot parse this file: "),
    ):
        describe_code(function, project)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(FunctionError, match=r"no\.py cannot be read: No such file or directory\."):
        read_file(tmp_path / "no.py")


def test_a_function_that_its_file_no_longer_has_is_an_error(tmp_path):
    project = write(tmp_path, {"task.py": "def run(): pass\n"})
    with imported(project) as function:
        (project / "task.py").write_text("def walk(): pass\n")
        with pytest.raises(FunctionError, match=r"task\.py has no function 'run'"):
            describe_code(function, project)


def test_a_changed_file_is_read_again(tmp_path):
    project = write(tmp_path, {"task.py": "def run(): return 1\n"})
    with imported(project) as function:
        before = describe_code(function, project)
        assert describe_code(function, project) == before
        (project / "task.py").write_text("def run(): return 22\n")
        assert changes(before.parts, describe_code(function, project).parts) == ["run changed"]


WRAPPED = """
import functools
def timed(f):
    @functools.wraps(f)
    def wrapper(*args):
        return f(*args) + 1
    return wrapper
def counted(f):
    def wrapper(*args): return f(*args) + 2
    return wrapper
def plain(): return 3
run = timed(plain)
other = counted(plain)
class Model:
    def fit(self): return 4
    def __call__(self): return 5
method = Model().fit
model = Model()
part = functools.partial(plain, 6)
double = lambda x: x + 8
def make(n, f):
    def inner(): return n + f()
    return inner
made = make(9, plain)
"""


@pytest.mark.parametrize(
    ("function", "constants"),
    [
        ("run", "13"),
        ("other", "23"),
        ("plain", "3"),
        ("method", "45"),
        ("Model", "45"),
        ("model", "45"),
        ("part", "36"),
        ("double", "8"),
        ("made", "93"),
    ],
)
def test_objects_lead_to_the_code_that_they_call(tmp_path, function, constants):
    for one in "12345689":
        found = changed(tmp_path, WRAPPED, WRAPPED.replace(one, f"7{one}"), function=f"task:{function}")
        assert bool(found) == (one in constants), (one, found)


def cell(source, names, number=[0]):  # noqa: B006
    """Runs a cell of a notebook, as IPython does: with a file name that no file has, and the source in linecache."""
    number[0] += 1
    name = f"/nowhere/ipykernel_1/{number[0]}.py"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    exec(compile(source, name, "exec"), names)


def notebook(*cells, function="run"):
    names = {"__name__": "__main__"}
    for one in cells:
        cell(one, names)
    return names[function]


def test_functions_of_a_notebook_reach_other_cells(tmp_path):
    project = write(tmp_path, {"helper.py": "def scale(x): return x * 3\ndef other(x): return x\n"})
    with imported(project, "helper:scale"):
        cells = ["import helper, math\nN = 1\nclass A:\n    def f(self): return 4\n", "def g(): return 2\n"]
        run = "def run(x):\n    return helper.scale(x) + math.pi + N + g() + A().f()\n"
        before = describe_code(notebook(*cells, run), project)
        assert before.parts.keys() == {
            "__main__.run",
            "__main__.N",
            "__main__.g",
            "__main__.A",
            "__main__.math",
            "helper.scale",
        }
        assert before.not_followed == ()
        assert before == describe_code(notebook(*cells, f"# a comment\n\n{run}"), project)
        for old, part in [("N = 1", "N"), ("return 2", "g"), ("return 4", "A")]:
            after = describe_code(notebook(*(one.replace(old, f"{old}0") for one in cells), run), project)
            assert changes(before.parts, after.parts) == [f"__main__.{part} changed"]


def test_lambdas_of_a_notebook_are_told_apart(tmp_path):
    versions = {describe_code(notebook(f"run = lambda x: x + {n}\n"), tmp_path).digest for n in (1, 2)}
    assert len(versions) == 2


def test_without_source_the_bytecode_counts(tmp_path):
    def version(code):
        names = {"__name__": "__main__"}
        exec(code, names)
        return describe_code(names["run"], tmp_path)

    one, two = version("def run(): return 1"), version("def run(): return 2")
    assert one.digest != two.digest
    assert one == version("def run(): return 1")
    assert one.not_followed == (
        "<string>:1: __main__.run: no source; its bytecode counts, which differs between versions of Python",
    )


def test_functions_that_hold_themselves_are_described(tmp_path):
    code = "def make():\n    def inner(n): return n and inner(n - 1)\n    return inner\nrun = make()\n"
    assert list(version(tmp_path, code).parts) == ["task.make"]
    assert describe_code(notebook(code), tmp_path).parts.keys() == {"__main__.make"}
    mutual = "def run(n): return n and other(n - 1)\n", "def other(n): return run(n)\n"
    assert describe_code(notebook(*mutual), tmp_path).parts.keys() == {"__main__.run", "__main__.other"}


def test_an_object_that_a_closure_holds_is_listed(tmp_path):
    code = "def make(x):\n    def inner(): return x\n    return inner\nrun = make(object())\n"
    assert version(tmp_path, code).not_followed == ("task.py:2: task.make.<locals>.inner.x: an object of type object",)


#: A decorator of this library, and something that runs without it, so that these tests need not know its decorators.
OURS = "try:\n    from taskfleet.no_such import Manager\nexcept ImportError:\n    from stand_in import Manager\n"
STAND_IN = "class Manager:\n    def __init__(self, n): pass\n    def clone(self, n): return self\n    def app(self, f): return f\n"


@pytest.mark.parametrize(
    "task", ["from managers import tm\n", "import managers\ntm = managers.tm.clone(1)\n", f"{OURS}tm = Manager(1)\n"]
)
def test_options_of_this_librarys_decorators_do_not_count(tmp_path, task):
    task += "@tm.clone(2).app\ndef run(x: int): return 3\n"
    files = {"task.py": task, "managers.py": f"{OURS}tm = Manager(4)\n", "stand_in.py": STAND_IN}
    for one in "124":
        other = {name: text.replace(one, f"5{one}") for name, text in files.items()}
        assert changed(tmp_path, files, other) == []
    assert changed(tmp_path, files, files | {"task.py": task.replace("x: int", "x")}) == []
    assert changed(tmp_path, files, files | {"task.py": task.replace("3", "6")}) == ["run changed"]


def test_changes_are_sentences():
    old = {
        "task.f": "1",
        "task.N": "2",
        "helper.A": "3",
        "helper.A.f": "4",
        "task.np": "= numpy",
        "task.C": "1",
        "task.C.f": "1",
    }
    new = {
        "task.f": "1",
        "task.N": "9",
        "helper.B": "3",
        "task.np": "= cupy",
        "task.C": "1",
        "task.C.g": "1",
        "task.m": "= math",
    }
    assert changes(old, new) == [
        *("helper.A is no longer used", "helper.B is new", "C.f is no longer used", "C.g is new", "N changed"),
        "np is cupy instead of numpy",
    ]
    assert changes({"a.f": "1"}, {"a.f": "2"}, module="a") == ["f changed"]
    assert changes(old, old) == []
