"""The store: files are named by their content, complete or not there, private, and verified when they are read."""

import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest
from taskfleet.errors import LostFileError, StoreError, UnreadableValueError
from taskfleet.references import INLINE_BYTES, Store, as_file, decode, encode, names_of_files
from taskfleet.references.contents import Content
from taskfleet.references.store import MAP_BYTES

LARGE = b"0123456789" * 20_000


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_large_bytes_are_a_file_that_is_named_by_its_hash(store, tmp_path):
    text = encode({"a": LARGE}, store)
    reference = json.loads(text)["a"]["$file"]
    assert reference["bytes"] == len(LARGE)
    assert reference["as"] == "bin"
    assert reference["name"] == f"{reference['sha256'][:2]}/{reference['sha256']}.bin"
    assert (tmp_path / "results" / reference["name"]).read_bytes() == LARGE
    assert decode(text, store) == {"a": LARGE}


@pytest.mark.parametrize("value", ["x" * INLINE_BYTES, list(range(INLINE_BYTES)), {"a": (1,) * INLINE_BYTES}])
def test_a_large_text_is_a_file(store, value):
    text = encode(value, store)
    assert json.loads(text)["$file"]["as"] == "json"
    assert decode(text, store) == value


def test_the_limit_is_that_of_the_text(store):
    assert encode("x" * (INLINE_BYTES - 2), store).startswith(b'"x')
    assert encode("x" * (INLINE_BYTES - 1), store).startswith(b'{"$file"')


def test_small_values_make_no_folder(store, tmp_path):
    encode([1, (2,), b"x", np.arange(3)], store)
    assert list(tmp_path.iterdir()) == []


def test_files_and_folders_are_for_the_user_alone(store, tmp_path):
    previous = os.umask(0)
    try:
        encode(LARGE, store)
    finally:
        os.umask(previous)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "results").rglob("*") if path.is_dir()}
    assert modes | {stat.S_IMODE((tmp_path / "results").stat().st_mode)} == {0o700}
    assert [stat.S_IMODE(path.stat().st_mode) for path in files_of(tmp_path)] == [0o600]


def test_the_same_content_is_one_file_which_is_not_replaced(store, tmp_path):
    first = encode(LARGE, store)
    [file] = files_of(tmp_path)
    number = file.stat().st_ino
    assert encode(LARGE, Store(tmp_path / "results")) == first
    assert [one.stat().st_ino for one in files_of(tmp_path)] == [number]


@pytest.mark.parametrize("damage", [b"", LARGE[:-1], LARGE + b"x", b"x" + LARGE[1:]])
def test_a_damaged_file_is_one_error_and_is_written_again_by_its_task(store, tmp_path, damage):
    text = encode(LARGE, store)
    [file] = files_of(tmp_path)
    file.write_bytes(damage)
    with pytest.raises(LostFileError) as caught:
        decode(text, store)
    assert str(file.relative_to(tmp_path / "results")) in str(caught.value)
    assert str(caught.value).endswith("Run that task again")
    encode(LARGE, store)
    assert decode(text, store) == LARGE


VALUES = {
    "bytes": LARGE,
    "text": "x" * 100_000,
    "array": np.arange(10_000),
    "mapped array": np.arange(MAP_BYTES),
    "frame": pd.DataFrame({"a": np.arange(10_000)}),
    "mapped frame": pd.DataFrame({"a": np.arange(MAP_BYTES)}),
}


@pytest.mark.parametrize("kind", VALUES)
def test_a_missing_file_is_one_error(store, tmp_path, kind):
    text = encode(VALUES[kind], store)
    [file] = files_of(tmp_path)
    file.unlink()
    with pytest.raises(LostFileError, match=r"which is the result of a task, does not exist\. Run that task again"):
        decode(text, store)


@pytest.mark.parametrize("kind", VALUES)
def test_a_longer_file_is_one_error(store, tmp_path, kind):
    text = encode(VALUES[kind], store)
    [file] = files_of(tmp_path)
    with open(file, "ab") as opened:
        opened.write(b"x")
    with pytest.raises(LostFileError, match=r"has more than [\d,]+ bytes"):
        decode(text, store)


@pytest.mark.parametrize("kind", VALUES)
def test_a_cut_file_is_one_error(store, tmp_path, kind):
    text = encode(VALUES[kind], store)
    [file] = files_of(tmp_path)
    os.truncate(file, file.stat().st_size - 1)
    with pytest.raises(LostFileError, match=r"has [\d,]+ of [\d,]+ bytes"):
        decode(text, store)


@pytest.mark.parametrize("kind", ["mapped array", "mapped frame"])
def test_a_mapped_file_that_is_damaged_where_its_structure_is_is_one_error(store, tmp_path, kind):
    text = encode(VALUES[kind], store)
    [file] = files_of(tmp_path)
    with open(file, "r+b") as opened:
        opened.seek(-8 if kind == "mapped frame" else 0, os.SEEK_END if kind == "mapped frame" else os.SEEK_SET)
        opened.write(b"damaged!")
    with pytest.raises(LostFileError, match=r"is damaged"):
        decode(text, store)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../../../etc/passwd"},
        {"name": "/etc/passwd"},
        {"name": f"ab/{'a' * 64}.bin"},
        {"name": "..", "sha256": ""},
        {"bytes": -1},
        {"bytes": "1"},
        {"sha256": None},
    ],
)
def test_no_reference_leads_out_of_the_store(store, change):
    reference = json.loads(encode(LARGE, store))["$file"]
    with pytest.raises(UnreadableValueError, match="is not that of a file of the store"):
        decode(json.dumps({"$file": reference | change}), store)


def test_a_name_and_a_hash_that_do_not_match_are_no_reference(store):
    reference = json.loads(encode(LARGE, store))["$file"]
    name, digest = reference["name"], reference["sha256"]
    for change in ({"name": name.replace(digest, digest[::-1])}, {"name": f"{digest[:2]}/{digest[:2]}{'a' * 62}.bin"}):
        with pytest.raises(UnreadableValueError, match="is not that of a file of the store"):
            decode(json.dumps({"$file": reference | change}), store)


def test_a_kind_of_a_newer_version_is_named(store):
    text = encode(LARGE, store).replace(b'"as":"bin"', b'"as":"hologram"')
    with pytest.raises(UnreadableValueError, match=r"of the kind 'hologram'.* a newer version wrote it"):
        decode(text, store)


def test_a_write_that_is_interrupted_leaves_nothing(store, tmp_path):
    def write(sink):
        sink(LARGE)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write(Content(kind="bin", size=len(LARGE), write=write))
    assert files_of(tmp_path) == []


def test_a_killed_process_leaves_no_file_under_a_name(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from taskfleet.references.contents import Content\n"
        "from taskfleet.references import Store\n"
        "def write(sink):\n"
        "    sink(b'x' * 3_000_000)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "Store(sys.argv[1]).write(Content(kind='bin', size=1, write=write))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "results")])
    assert done.returncode == -signal.SIGKILL
    [draft] = files_of(tmp_path)
    assert draft.name.startswith(".draft-")


def test_writers_of_the_same_content_at_once(tmp_path):
    texts = []

    def write():
        texts.append(encode(LARGE * 10, Store(tmp_path / "results")))

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 8
    assert len(set(texts)) == 1
    assert len(files_of(tmp_path)) == 1
    assert decode(texts[0], Store(tmp_path / "results")) == LARGE * 10


@pytest.fixture
def short_files():
    """Lets this process write no longer files than 100,000 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("value", [LARGE, "x" * 200_000, np.arange(MAP_BYTES), VALUES["mapped frame"]], ids=type)
def test_a_file_that_cannot_be_written_is_one_error(store, tmp_path, short_files, value):
    with pytest.raises(StoreError) as caught:
        encode(value, store)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == errno.EFBIG
    assert f"A large value cannot be written in RESULTS_PATH={tmp_path / 'results'}: File too large" in str(
        caught.value
    )
    assert files_of(tmp_path) == []


def test_a_full_disk_is_one_error(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")
    store = Store(tmp_path / "results")

    def write(_):
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")

    with pytest.raises(StoreError, match=r"no space is left. Delete files there, or choose another place") as caught:
        store.write(Content(kind="bin", size=1, write=write))
    assert caught.value.errno == errno.ENOSPC


def test_a_missing_permission_is_one_error(store, tmp_path, permissions):
    text = encode(LARGE, store)
    [file] = files_of(tmp_path)
    file.chmod(0)
    with pytest.raises(
        StoreError, match=r"cannot be read in RESULTS_PATH=.*: Permission denied. Change the permissions"
    ) as caught:
        decode(text, store)
    assert not isinstance(caught.value, LostFileError)
    assert caught.value.errno == errno.EACCES
    (tmp_path / "results").chmod(0o500)
    with pytest.raises(StoreError, match=r"cannot be written in RESULTS_PATH=.*: Permission denied"):
        encode(LARGE + b"x", store)
    (tmp_path / "results").chmod(0o700)


def test_a_folder_that_is_a_file_is_one_error(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(StoreError, match=r"A large value cannot be written in RESULTS_PATH="):
        encode(LARGE, Store(tmp_path / "results"))


def test_another_address_is_an_error_that_names_the_setting():
    with pytest.raises(
        ValueError, match=r"LARGE_VALUES=ftp://host/a is not supported: write a folder, s3://BUCKET/… or gs://BUCKET/…"
    ):
        Store("ftp://host/a", "LARGE_VALUES")


def test_the_folder_stays_where_it_was_when_the_process_changes_its_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store("results")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    encode(LARGE, store)
    assert [path.parent.parent for path in files_of(tmp_path)] == [tmp_path / "results"]


def test_files_can_be_deleted(store, tmp_path):
    text = encode([LARGE, np.arange(10_000)], store)
    for name in names_of_files(text):
        store.delete(name)
        store.delete(name)
    assert files_of(tmp_path) == []


IMPORTS = """
import sys
import taskfleet.tables.values, taskfleet.outputs
from taskfleet.references import Store, decode, encode
store = Store(sys.argv[1])
for value in ({"a": [1, (2, {3})]}, b"x" * 100_000, "x" * 100_000):
    assert decode(encode(value, store), store) == value
print(*sorted({"numpy", "pandas", "pyarrow", "cloudpickle", "pickle"} & set(sys.modules)))
"""


def test_packages_of_other_values_are_not_imported(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, str(tmp_path / "results")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


MEMORY = """
import resource, sys
import numpy
from taskfleet.references import Store, decode, encode
store, kind, size = Store(sys.argv[1]), sys.argv[2], 200 << 20
encode(numpy.arange(1000), store, inline_bytes=0), encode(b"x" * 100_000, store)
value = b"x" * size if kind == "bytes" else numpy.ones(size // 8)
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
text = encode([value], store)
written = peak()
again = decode(text, store)[0]
if kind == "array": again.sum()
print((written - before) / size, (peak() - written) / size)
"""


@pytest.mark.parametrize("kind", ["bytes", "array"])
def test_a_large_value_is_not_copied_to_write_it_and_once_to_read_it(tmp_path, kind):
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "results"), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    writing, reading = map(float, done.stdout.split())
    assert writing < 0.2
    assert reading < 1.2


def test_without_a_place_only_large_values_are_errors_and_the_setting_is_named():
    nowhere = Store("")
    assert decode(encode({"a": 1}, nowhere), nowhere) == {"a": 1}
    with pytest.raises(StoreError, match=r"Set RESULTS_PATH to a bucket \(s3://…, gs://…\)"):
        encode(LARGE, nowhere)


def test_a_file_that_another_machine_wrote_into_its_own_folder_is_explained(store, tmp_path):
    text = encode(LARGE, store)
    with pytest.raises(StoreError, match="Set RESULTS_PATH to a bucket"):
        decode(text, Store(""))
    with pytest.raises(LostFileError, match=r"elsewhere does not exist on this machine.* set RESULTS_PATH to a bucket"):
        decode(text, Store(tmp_path / "elsewhere"))


def test_text_that_is_written_to_a_file_is_read_with_its_files(store):
    data = encode({"a": LARGE, "b": (1, 2)}, store)
    assert decode(as_file(data, store), store) == {"a": LARGE, "b": (1, 2)}
