"""The hash of a content: the same however it comes, another one after any change."""

import random
from hashlib import sha256

import pytest
from taskfleet.errors import LostFileError
from taskfleet.references import Store
from taskfleet.references.contents import Content
from taskfleet.references.hashing import ContentHash

PIECE = 4 << 20
CONTENT = random.Random(1).randbytes(2 * PIECE + 1_500_000)


def hash_of(*parts):
    known = ContentHash()
    for part in parts:
        known.update(part)
    assert known.n_bytes == sum(map(len, parts))
    return known.hexdigest()


def defined(content):
    pieces = [content[start : start + PIECE] for start in range(0, len(content), PIECE)]
    return sha256(b"".join(sha256(piece).digest() for piece in pieces)).hexdigest()


@pytest.mark.parametrize("size", [0, 1, 1 << 20, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, len(CONTENT)])
def test_it_is_the_hash_of_the_hashes_of_pieces(size):
    assert hash_of(CONTENT[:size]) == defined(CONTENT[:size])


@pytest.mark.parametrize("seed", range(20))
def test_parts_of_any_size_give_the_same(seed):
    draw = random.Random(seed)
    ends = sorted(draw.choices([0, 1, 128, PIECE, PIECE + 128, draw.randrange(len(CONTENT))], k=4))
    ends.append(len(CONTENT))
    parts = [CONTENT[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert hash_of(*parts) == hash_of(CONTENT)


def test_the_digests_of_a_content_are_another_content():
    pieces = [CONTENT[:PIECE], CONTENT[PIECE : 2 * PIECE]]
    digests = b"".join(sha256(piece).digest() for piece in pieces)
    assert hash_of(digests) != hash_of(*pieces)


def test_pieces_in_another_order_are_another_content():
    first, second = CONTENT[:PIECE], CONTENT[PIECE : 2 * PIECE]
    assert hash_of(first, second) != hash_of(second, first)


@pytest.mark.parametrize("place", [0, PIECE - 1, PIECE, len(CONTENT) - 1])
def test_a_changed_byte_in_any_piece_is_detected_and_repaired(tmp_path, place):
    store = Store(tmp_path / "results")
    content = Content(kind="bin", size=len(CONTENT), write=lambda write: (write(CONTENT[:128]), write(CONTENT[128:])))
    file = store.write(content)
    assert store.read(file, bytes) == CONTENT
    path = tmp_path / "results" / file.name
    with open(path, "r+b") as opened:
        opened.seek(place)
        opened.write(bytes([CONTENT[place] ^ 1]))
    with pytest.raises(LostFileError, match="has another content than when it was written"):
        store.read(file, bytes)
    assert store.write(content) == file
    assert store.read(file, bytes) == CONTENT


def test_what_is_done_meanwhile_may_fail_and_the_bytes_are_free_again():
    data = bytearray(CONTENT)

    def fail(_):
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        ContentHash().update(data, fail)
    del data[:]  # a bytearray that a thread still reads cannot be resized
