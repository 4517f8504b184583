"""A seeded fuzzer of the readers of tables: it changes valid samples, and reports what is neither rows nor an error in one line."""

import faulthandler
import gzip
import json
import os
import random
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
from taskfleet.errors import TaskfleetError
from taskfleet.tables.reading import read_batches

SUFFIXES = [".csv", ".json", ".jsonl", ".yaml", ".csv.gz", ".json.gz", ".jsonl.gz", ".feather", ".arrow", ".parquet"]

ROWS = [
    {"task_id": "t1", "num1": 1, "num2": 0.5, "name": 'a "quoted", é', "on": True, "list": [1, 2], "note": None},
    {"task_id": "t2", "num1": -(2**62), "num2": 1e300, "name": "two\nlines", "on": False, "list": [], "note": "x"},
    {"task_id": "t3", "num1": 3, "num2": -0.0, "name": "", "on": True, "list": [7], "note": None},
]

YAML = """%YAML 1.2
---
- &first {task_id: t1, num1: 1, num2: .5, name: "a \\"quoted\\", \\u00e9", on: yes, list: [1, 0x1F], note: ~}
- <<: *first
  task_id: !!str 12
  name: |
    two
    lines
- {<<: [*first, {a: 1}], task_id: t3, ? list : &l [[*first]], x: *l, date: 2024-01-02} # end
"""

TOKENS = {
    "text": [b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b"\n", b"\t", b" ", b"'", b'"', b"\\", b"\xc2\x85"],
    "csv": [b",", b'""', b"\n\n", b"NA", b"+1", b"-0", b"1e400", b"1e-400", b"0x10", b"inf", b"true", b"9" * 30],
    "json": [
        b"[", b"]", b"{", b"}", b",", b":", b"null", b"NaN", b"-", b"1e400", b"9" * 5000, b'"\\ud800"', b'"a":1,"a":2', b"[" * 2000,
    ],
    "yaml": [
        b"- ", b"? ", b": ", b"&a ", b"*a", b"*first", b"<<: ", b"!!int ", b"!!binary ", b"!x ", b"|\n", b">\n", b"---\n", b"...\n",
        b"{", b"}", b"[", b"]", b"#", b"%", b"@", b"`", b"[" * 2000, b"9" * 5000, b".inf", b"1e400", b"  ",
    ],
}  # fmt: skip

FINDS: list[tuple[str, bytes]] = [
    (".json", b'[{"num1": ' + b"1" * 4301 + b', "num2": 2}]'),
    (".json", b'[{"a": ' + b"[" * 100_000),
    (".jsonl", b'{"a": ' + b"[" * 100_000),
    (".yaml", b"- {a: " + b"[" * 100_000),
    (".yaml", b"- &a [*a]"),
    (".csv", b'a,b\n1,"x\n'),
]


def samples(folder: Path) -> dict[str, bytes]:
    """Return a valid table of each format."""
    table = pa.Table.from_pylist(ROWS)
    flat = table.drop_columns(["list"])
    pa.csv.write_csv(flat, folder / "t.csv")
    pa.feather.write_feather(table, folder / "t.feather", chunksize=2)
    with pa.ipc.new_stream(folder / "t.arrow", table.schema) as writer:
        writer.write_table(table)
    pa.parquet.write_table(table, folder / "t.parquet", row_group_size=2)
    found = {suffix: (folder / f"t{suffix}").read_bytes() for suffix in (".csv", ".feather", ".arrow", ".parquet")}
    found[".json"] = json.dumps(ROWS, ensure_ascii=False).encode()
    found[".jsonl"] = "\n".join(map(json.dumps, ROWS)).encode()
    found[".yaml"] = YAML.encode()
    return found


def changed(sample: bytes, tokens: list[bytes], chance: random.Random) -> bytes:
    """Return a sample after one to four changes."""
    content = bytearray(sample)
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        start = chance.randrange(len(content) + 1)
        end = min(len(content), start + chance.choice([0, 1, 1, 2, 4, 8, 40]))
        kind = chance.randrange(6)
        if kind == 0 and start < len(content):
            content[start] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del content[start:end]
        elif kind == 2:
            content[start:start] = content[start:end] * chance.choice([1, 2, 50])
        elif kind == 3 and chance.randrange(4) == 0:
            del content[start:]
        elif kind == 4:
            content[start:end] = chance.randbytes(chance.choice([1, 4, 8]))
        elif tokens:
            content[start : chance.choice([start, end])] = chance.choice(tokens)
    return bytes(content)


def inputs(suffix: str, seed: int, count: int, folder: Path) -> list[bytes]:
    """Return the inputs of a seed."""
    plain = suffix.removesuffix(".gz")
    sample = samples(folder)[plain]
    language = {".jsonl": "json"}.get(plain, plain.removeprefix("."))
    tokens = [*TOKENS["text"], *TOKENS[language]] if language in TOKENS else []
    chance = random.Random(f"{suffix} {seed}")
    if plain == suffix:
        return [changed(sample, tokens, chance) for _ in range(count)]
    return [
        changed(gzip.compress(sample, mtime=0), [], chance)
        if index % 2
        else gzip.compress(changed(sample, tokens, chance), mtime=0)
        for index in range(count)
    ]


def read(path: Path) -> None:
    """Read a table as an insertion does, and check that the texts are JSON objects."""
    for batch in read_batches(path):
        rows = batch.encode(lambda names: None)
        assert all(isinstance(json.loads(text), dict) for text in rows.data)
        assert rows.ids is None or len(rows.ids) == len(rows.data)


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a process that runs this module from any place."""
    root = str(Path(__file__).resolve().parents[3])
    return {**os.environ, "PYTHONPATH": root, "TMPDIR": str(folder)}


def main(suffix: str, seed: int, count: int) -> int:
    """Read all inputs of a seed, and print the first wrong answer with its input; a crash or a hang prints where it was."""
    faulthandler.enable()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / f"fuzzed{suffix}"
        for number, content in enumerate(inputs(suffix, seed, count, folder)):
            print(number, flush=True)  # after a crash, the last number is that of its input
            path.write_bytes(content)
            faulthandler.dump_traceback_later(120, exit=True)
            try:
                read(path)
            except TaskfleetError as error:
                problem = "" if "\n" not in str(error) and len(str(error)) < 2000 else f"its message is {str(error)!r}"
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                problem = ""
            faulthandler.cancel_dump_traceback_later()
            if problem:
                print(f"Input {number} of seed {seed}, {content!r}: {problem}")
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
