"""GNU parallel: ``parallel -j2 --joblog FILE --results FOLDER python -c …``, an interpreter for each task, the result printed and kept.

Measured: the whole command; there is nothing to insert.
"""

import shutil
import sys

import measure

NAME = "GNU parallel, python -c"
KEEPS = "standard output and a log in files"
DISTRIBUTION = None
SIZES = {"noop": 100, "work": 100, "large": 100}
INSERTED = None


def missing():
    return None if shutil.which("parallel") else "GNU parallel is not installed (apt-get install parallel)"


def run(kind, n, folder):
    (folder / "numbers").write_text("".join(f"{number}\n" for number in range(n)))
    code = f"import sys, tasks; print(tasks.{kind}(int(sys.argv[1])))"
    flags = ["-j2", "--will-cite", "--joblog", folder / "log", "--results", folder / "out", "-a", folder / "numbers"]
    done = measure.run(["parallel", *flags, "-q", sys.executable, "-c", code, "{}"], folder, HOME=str(folder))
    results = sum(1 for file in (folder / "out").rglob("stdout") if file.stat().st_size)
    if results != n:
        raise RuntimeError(f"{results} of {n} results are there")
    return done.seconds
