"""Groups items into messages, requests or statements that have a maximum number of items and a maximum size."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def grouped(items: Iterable[T], *, most: int, most_size: int, size_of: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield the items, in order, in lists of at most ``most`` items and a total of ``most_size``; a single item may be larger.

    Args:
        items: The items to group.
        most: The maximum number of items in a list.
        most_size: The maximum total size of a list.
        size_of: Returns the size of an item, in the unit of ``most_size``.
    """
    found: list[T] = []
    size = 0
    for item in items:
        more = size_of(item)
        if found and (len(found) >= most or size + more > most_size):
            yield found
            found, size = [], 0
        found.append(item)
        size += more
    if found:
        yield found


def chunks(items: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    """Yield the items, in order, in slices of at most ``most`` items."""
    return (items[start : start + most] for start in range(0, len(items), most))
