"""Classes of a project, whose objects are passed between tasks."""

import enum
from dataclasses import KW_ONLY, InitVar, dataclass, field
from functools import cached_property
from typing import ClassVar, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Colour(enum.Enum):
    RED = (1, 0)
    BLUE = "b"
    ALSO_BLUE = "b"  # noqa: PIE796


class Level(enum.IntEnum):
    LOW = 1


class Mode(enum.StrEnum):
    FAST = "fast"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: float
    y: object = 0


@dataclass
class Star:
    name: str
    position: Point
    colours: set = field(default_factory=set)
    kind: ClassVar[str] = "star"
    scale: InitVar[int] = 1

    def __post_init__(self, scale):
        self.name = self.name * scale

    @cached_property
    def size(self):
        return len(self.name)

    class Inner(enum.Enum):
        ONE = 1


@dataclass(frozen=True, slots=True)
class Frozen(Generic[T]):
    value: T
    _: KW_ONLY
    computed: int = field(init=False, default=3)


@dataclass(slots=True)
class Base:
    a: int


@dataclass(slots=True)
class Derived(Base):
    b: int


class Plain(Base):
    """A class of a dataclass that is none itself."""


@dataclass
class Unset:
    value: int = field(init=False)


@dataclass
class OfDict(dict):
    value: int


class MorePoint(Point):
    pass


class Other:
    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return type(self) is type(other) and self.value == other.value

    __hash__ = None
