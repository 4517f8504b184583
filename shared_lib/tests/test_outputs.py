"""Files of tasks in OUTPUT_PATH: no id leads out of it, and no two ids share a file."""

import os
import random
import sys
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taskfleet import TaskContext, list_outputs, output_name
from taskfleet.errors import MissingPackageError
from taskfleet.tables.address import gs_filesystem, s3_filesystem

BAD = [
    "../../x",
    "/etc/passwd",
    "..",
    ".",
    "a/b",
    "a\\b",
    "C:x",
    "~",
    "~root",
    "",
    " ",
    "a ",
    "a.",
    "-rf",
    "a\nb",
    "a\x00b",
    "\ud800",
]
RESERVED = ["con", "CON", "nul.txt", "com1", "LPT9.tar.gz", "aux", "Prn"]


@pytest.mark.parametrize(
    ("task_id", "name"),
    [
        ("addition-task-000001", "addition-task-000001"),
        ("3c273", "3c273"),
        ("v1.2_b", "v1.2_b"),
        ("M31", "M31~1"),
        ("m31", "m31"),
        ("IMG_001", "IMG_001~7"),
        ("../../x", "%2e.%2f..%2fx"),
        ("/etc", "%2fetc"),
        (".hidden", "%2ehidden"),
        ("end.", "end%2e"),
        ("con", "%63on"),
        ("nul.txt", "%6eul.txt"),
        ("console", "console"),
        ("a b", "a%20b"),
        ("50%", "50%25"),
        ("é", "%c3%a9"),
        ("", "%"),
    ],
)
def test_the_name_of_an_id(task_id, name):
    assert output_name(task_id) == name


def is_safe(name):
    base = name.split(".")[0].lower()
    reserved = {"con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(10))}
    allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-%~"
    return (
        0 < len(name) <= 200
        and set(name) <= set(allowed)
        and not name.startswith((".", "~"))
        and not name.endswith(".")
        and base not in reserved
    )


TRICKY = (
    st.text(alphabet="aAbB.%~/2eC1on -_é\ud800", max_size=12)
    | st.text(max_size=30)
    | st.text(min_size=150, max_size=600)
)


@given(TRICKY, TRICKY)
def test_names_are_safe_and_no_two_ids_share_one_where_case_does_not_count(one, other):
    assert is_safe(output_name(one)), output_name(one)
    assert (output_name(one).casefold() == output_name(other).casefold()) == (one == other)


def test_no_two_of_all_short_ids_share_a_name():
    ids = ["".join(signs) for length in range(5) for signs in product("aA.%~2e/", repeat=length)]
    assert len({output_name(one).lower() for one in ids}) == len(ids)


def test_long_ids_that_differ_only_at_their_end_have_different_names():
    rnd = random.Random(1)
    ids = ["x" * 490 + str(rnd.random()) for _ in range(1000)]
    assert len({output_name(one) for one in ids}) == 1000
    assert is_safe(output_name("é" * 512))


@pytest.mark.parametrize("task_id", BAD + RESERVED)
def test_no_file_is_written_outside_of_the_folder(tmp_path, task_id):
    folder = tmp_path / "a" / "b" / "out"
    context = TaskContext.for_test(task_id, output_path=str(folder))
    path = context.write_output("text", suffix=".txt")
    assert os.path.realpath(path) == path
    assert [entry.name for entry in folder.iterdir()] == [os.path.basename(path)]
    assert context.output_file(".txt").read_text() == "text"
    assert sorted(entry for entry in tmp_path.rglob("*") if entry.is_file()) == [folder / os.path.basename(path)]
    assert list_outputs(str(folder), ".txt") == {output_name(task_id)}


@pytest.mark.parametrize("suffix", ["/x", "../x", ".txt/../../y", "txt", ".", ". txt", ".a\x00"])
def test_a_suffix_does_not_lead_out_of_the_folder(tmp_path, suffix):
    context = TaskContext.for_test(output_path=str(tmp_path))
    for write in (lambda: context.write_output("", suffix), lambda: context.output_file(suffix)):
        with pytest.raises(ValueError, match="is not a suffix"):
            write()


def test_a_file_is_replaced_as_a_whole_and_drafts_are_no_outputs(tmp_path):
    context = TaskContext.for_test(output_path=str(tmp_path))
    context.write_output("first", ".txt")
    context.write_output(b"\x00second", ".txt")
    assert (tmp_path / "test.txt").read_bytes() == b"\x00second"
    (tmp_path / ".draft.txt").write_text("")
    (tmp_path / "other.fits").write_text("")
    assert list_outputs(str(tmp_path), ".txt") == {"test"}


def test_without_an_output_path_there_are_no_outputs_and_writing_says_what_to_set(tmp_path):
    assert list_outputs(None, ".txt") == set()
    assert list_outputs(str(tmp_path / "missing"), ".txt") == set()
    with pytest.raises(ValueError, match="OUTPUT_PATH is not set"):
        TaskContext.for_test().write_output("text")


@pytest.mark.parametrize("path", ["ftp://host/x", "https://host/x", "S3a://bucket/x"])
def test_a_place_that_is_not_supported_is_refused_and_makes_no_folder(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is not supported: write a folder, s3://"):
        TaskContext.for_test(output_path=path).write_output("text")
    assert list(tmp_path.iterdir()) == []


def test_the_address_of_a_local_folder_is_that_folder(tmp_path):
    TaskContext.for_test(output_path=f"file://{tmp_path}/out").write_output("text", ".txt")
    assert (tmp_path / "out" / "test.txt").read_text() == "text"


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_outputs_go_to_the_bucket_and_are_found_there(scheme, tmp_path, monkeypatch, request):
    url = request.getfixturevalue(f"{scheme}_bucket")
    monkeypatch.chdir(tmp_path)
    assert list_outputs(f"{url}/out", ".txt") == set()
    context = TaskContext.for_test("../M31", output_path=f"{url}/out")
    address = context.write_output("text", suffix=".txt")
    assert address == f"{url}/out/{output_name('../M31')}.txt"
    filesystem = s3_filesystem("bucket") if scheme == "s3" else gs_filesystem()
    with filesystem.open_input_stream(address.partition("://")[2]) as stream:
        assert stream.read() == b"text"
    assert list_outputs(f"{url}/out/", ".txt") == {output_name("../M31")}
    assert list(tmp_path.iterdir()) == []  # no folder called "s3:"
    with pytest.raises(ValueError, match="is a bucket, which has no local files"):
        context.output_file(".txt")


@pytest.mark.parametrize("use", [list_outputs, lambda url: TaskContext.for_test(output_path=url).write_output("text")])
def test_a_bucket_without_pyarrow_names_the_command_that_adds_it(use, monkeypatch):
    for name in ("pyarrow", "pyarrow.fs"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match=r"OUTPUT_PATH=gs://bucket/out needs .* uv add pyarrow$"):
        use("gs://bucket/out")
