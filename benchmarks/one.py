"""One side, one kind, once, in a process of its own: ``python one.py SIDE KIND N`` prints what it took as JSON."""

import multiprocessing
import os
import sys
from pathlib import Path

from measure import as_json, temporary_folder
from sides import load

if __name__ == "__main__":
    multiprocessing.freeze_support()
    side = load(sys.argv[1])
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent)
    with temporary_folder() as folder:
        seconds = side.run(sys.argv[2], int(sys.argv[3]), folder)
        print(as_json({"drain_seconds": seconds, "insert_seconds": side.INSERTED}))
