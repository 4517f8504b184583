"""Give the random generators of a process a new state, because each process of a task starts with a copy of them.

All generators that the interpreter knows of are found, whichever object holds them: a module, a class, an instance, a closure, a default
argument, a suspended generator function, an estimator of scikit-learn. The garbage collector lists its objects without running any of the
user's code, once per import of the user's module. The new state comes from the operating system.

Not found are generators inside compiled libraries that no Python object stands for, and numbers drawn during the import.
"""

import gc
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

_Action: TypeAlias = Callable[[], Any]

#: Beyond this, giving each of them a state would take longer than most tasks.
MAX_GENERATORS = 10_000
#: Objects whose referents are listed at a time.
_BLOCK_OBJECTS = 10_000

#: Classes that draw numbers and cannot be given a state from here, by package and name.
_OUT_OF_REACH = {
    ("cupy", "Generator"),
    ("cupy", "RandomState"),
    ("mxnet", "RandomState"),
    ("randomgen", "ExtendedGenerator"),
    ("tensorflow", "Generator"),
}

_REMEDY = "Create them in the function."


@dataclass(frozen=True, slots=True)
class Generators:
    """The generators of this process."""

    reseeders: list[_Action]
    """Functions that give each of them a new state."""
    warnings: list[str]
    """Sentences about those that cannot be given one."""


def reseed_generators() -> Generators:
    """Give the generators of this process a new state, and return them. Call it before ``gc.freeze``, which it undoes."""
    gc.unfreeze()
    objects = gc.get_objects()
    kinds = {id(kind): kind for kind in map(type, objects)}  # by id: a metaclass may define a hash
    wanted = {key for key, kind in kinds.items() if _is_generator(kind)}
    found = [one for one in objects if id(type(one)) in wanted]
    found += _torch_generators(objects)
    reseeders: list[_Action] = []
    unreachable: set[str] = set()
    # RandomState.seed, which takes half the time, is called for these
    seeded = {id(one._bit_generator) for one in found if _is_legacy(type(one)) and _has_twister(one)}
    found = [one for one in found if id(one) not in seeded]
    for one in found[:MAX_GENERATORS]:
        try:
            reseed = _reseeder(one)
            if reseed is not None:
                reseed()  # fails here rather than in a task; nothing of the old state is needed any more
                reseeders.append(reseed)
        except Exception:  # a class of the user's, or of another release
            unreachable.add(_name(type(one)))
    _separate_time_based_uuids()
    return Generators(reseeders, list(_warnings(unreachable, len(found))))


def _warnings(unreachable: set[str], n_found: int) -> Iterator[str]:
    if unreachable:
        yield (
            f"Each task draws the same numbers from generators of {', '.join(sorted(unreachable))} that are created when the module is "
            f"imported, because they cannot be given a new state. {_REMEDY}"
        )
    if n_found > MAX_GENERATORS:
        yield (
            f"The module creates more than {MAX_GENERATORS:,} random generators when it is imported; each task draws the same numbers "
            f"from the others. {_REMEDY}"
        )


class _OutOfReachError(Exception):
    """A generator that cannot be given a state."""


def _is_generator(kind: type) -> bool:
    return _is_standard(kind) or _is_legacy(kind) or _is_bits(kind) or _is_out_of_reach(kind)


def _is_standard(kind: type) -> bool:
    random = sys.modules.get("random")
    return random is not None and issubclass(kind, random.Random) and not issubclass(kind, random.SystemRandom)


def _is_legacy(kind: type) -> bool:
    numpy = sys.modules.get("numpy.random")
    return numpy is not None and issubclass(kind, numpy.RandomState)


def _is_bits(kind: type) -> bool:
    """Return whether a class is one of those from which numpy's ``Generator`` draws."""
    numpy = sys.modules.get("numpy.random")
    return numpy is not None and issubclass(kind, numpy.BitGenerator)


def _is_out_of_reach(kind: type) -> bool:
    return (_package(kind), kind.__name__) in _OUT_OF_REACH


def _torch_generators(objects: list[Any]) -> list[Any]:
    """Return PyTorch's generators, which the garbage collector does not list, but those that refer to them."""
    kind = getattr(sys.modules.get("torch"), "Generator", None)
    if not isinstance(kind, type):
        return []
    found: dict[int, Any] = {}
    for start in range(0, len(objects), _BLOCK_OBJECTS):
        referents = gc.get_referents(*objects[start : start + _BLOCK_OBJECTS])
        found |= {id(one): one for one in referents if type(one) is kind}
    return list(found.values())


def _reseeder(one: Any) -> _Action | None:
    """Return a function that gives a generator a new state; None if there is nothing to do.

    Raises:
        _OutOfReachError: There is no such function.
    """
    kind = type(one)
    if _is_standard(kind):
        return _standard_reseeder(one)
    numpy: Any = sys.modules.get("numpy.random")
    if _is_legacy(kind):
        if _has_twister(one):
            return partial(numpy.RandomState.seed, one)
        state = numpy.RandomState.get_state(one, legacy=False)
        numpy.RandomState.set_state(one, state | {"has_gauss": 0})  # the second of a pair of normal deviates
        return None
    if _is_bits(kind) and kind.__module__.startswith("numpy.random."):
        return partial(_reseed_bits, one, kind)
    if _package(kind) == "torch" and one.device.type == "cpu":
        seed: _Action = one.seed
        return seed
    raise _OutOfReachError


def _standard_reseeder(one: Any) -> _Action:
    import _random
    import random

    own = [base for base in type(one).__mro__ if base not in random.Random.__mro__]
    if any(name in vars(base) for base in own for name in ("random", "getrandbits")):
        raise _OutOfReachError
    object.__setattr__(
        one, "gauss_next", None
    )  # the second of a pair of normal deviates, which the C layer does not know
    return partial(_random.Random.seed, one)  # the Python layer touches more memory pages


def _reseed_bits(bits: Any, kind: Any) -> None:
    """Give one of numpy's bit generators a new state, and a new seed sequence, from which ``Generator.spawn`` derives others."""
    bits.__setstate__(kind().__getstate__())


def _has_twister(state: Any) -> bool:
    """Return whether a ``RandomState`` draws from the Mersenne Twister, the only one that its ``seed`` supports."""
    return type(state._bit_generator).__name__ == "MT19937"


def _separate_time_based_uuids() -> None:
    """Have ``uuid1`` draw its clock sequence for each id.

    The C library draws it once, so the ids of two processes that are forked afterwards would be equal if made in the same 100 ns.
    """
    uuid: Any = sys.modules.get("uuid")
    if getattr(uuid, "_generate_time_safe", None) is not None:
        uuid.getnode()  # uses the C library; the result is kept
        uuid._generate_time_safe = None


def _package(kind: type) -> str:
    module = kind.__module__
    return module.partition(".")[0] if isinstance(module, str) else ""


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__name__}"
