"""Dividing what is sent among messages, requests or statements, which hold a limited number and a limited size of it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def grouped(items: Iterable[T], *, most: int, most_size: int, size_of: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield the items, in order, in lists of ``most`` items and of ``most_size`` in all at most; an item alone may be larger.

    Args:
        items: What to divide.
        most: The most items of a list.
        most_size: The most that the sizes of a list may add up to.
        size_of: Returns an item's size, in the unit of ``most_size``.
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
    """Yield the items, in order, in parts of ``most`` items at most."""
    return (items[start : start + most] for start in range(0, len(items), most))
