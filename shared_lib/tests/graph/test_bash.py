"""Apps that return commands."""


def test_commands(project):
    project.run("""
import sys
@app(bash=True)
def write(path, text): return ["sh", "-c", 'printf %s "$1" > "$0"', path, text]
@app(bash=True)
def shell(*words): return f"echo {' '.join(map(str, words))}; echo to stderr >&2"
@app(bash=True)
def numbers(n): return ("echo", n, 1.5)
@app(bash=True)
def pipe(): return "false | cat"
@app(bash=True)
def unset(): return "echo $NOT_SET"
@app(bash=True)
def two(): return "false; true"
@app(bash=True)
def code(n): return f"exit {n}"
@app(bash=True)
def signalled(): return "kill -TERM $$"
@app(bash=True)
def absent(): return ["no-such-program"]
@app(bash=True)
def wrong(): return 5
@app(bash=True)
def empty(): return []
@app
def after(x): return x

with flow():
    first = write("out.txt", "a b\\"c'$(d)")
    second = shell("hello", after(first), after(2))
    third = numbers(7)
    child = after(third)
    failing = [pipe(), unset(), two(), code(7), signalled(), absent(), wrong(), empty()]
    upstream = after(failing[3])
assert first.result() is None and open("out.txt").read() == "a b\\"c'$(d)"
assert second.result() is None and second.output() == "hello None 2\\nto stderr\\n", second.output()
assert child.result() is None and third.output() == "7 1.5\\n"
errors = [str(one.exception()) for one in failing]
for part, error in zip(["bash ended with code 1", "bash ended with code 1", "bash ended with code 1", "bash ended with code 7",
                        "bash was killed by signal 15", "no-such-program", "a bash app returns a list of arguments or a text, not 5",
                        "empty"], errors, strict=True):
    assert part in error, (part, error)
assert failing[3].id in str(upstream.exception())
""")


def test_much_output_on_both_streams(project):
    """200 kB on each, more than a pipe holds."""
    project.run("""
@app(bash=True)
def loud(): return "head -c 200000 /dev/zero | tr '\\\\0' e >&2; head -c 200000 /dev/zero | tr '\\\\0' o; echo end"
@app
def talk():
    import sys
    print("x" * 200_000, file=sys.stderr)
    print("end")
    return 1
with flow():
    a, b = loud(), talk()
assert a.result() is None and a.stdout.endswith("oend\\n") and a.stderr.endswith("ee"), a.output()[-100:]
assert b.result() == 1 and b.stdout == "end\\n" and b.stderr.endswith("xx\\n")
""")


def test_two_statements_on_a_line_and_other_legal_python(project):
    """Functions are imported, so whatever Python accepts is fine."""
    project.run('''
import math; from math import sqrt
class Helper:
    factor = 3
def deco(f):
    return f
@app
@deco
def one(x): import time; time.sleep(0); y = x; return y + Helper.factor
@app
def text(): return """a
  b
c"""
@app
def quoted(x="it's", *, y='"'): return f"{x}{y}"
square = lambda x: x * x
@app
def uses(x): return square(sqrt(x)) + math.pi * 0
with flow():
    futures = [one(1), text(), quoted(), uses(4)]
assert [f.result() for f in futures] == [4, "a\\n  b\\nc", "it's\\"", 4.0]
''')
