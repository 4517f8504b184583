"""Arrays and scalars of numpy.

==================================  ================================================================================================
``{"$npy": base64}``                an array, as an ``.npy`` file; one in a file of the store is mapped into memory if that is local
``{"$scalar": ["<f4", 1.5]}``       a scalar, with its type; text and bytes have the types ``U`` and ``S``
``{"$scalar": {"$npy": …}}``        any other scalar, as an array of zero dimensions
==================================  ================================================================================================

The mapping is *copy on write*: the array is a normal one, and what is written to it does not reach the file.
"""

import io
import sys
import warnings
from functools import partial
from pathlib import Path as FilePath
from typing import Any

from taskfleet.references.contents import Content, Write
from taskfleet.references.rules import Conversion, real, text, unsupported
from taskfleet.tables.values import JSON, Path

#: The longest header that is read; numpy's limit of 10,000 would reject types with many fields.
_MAX_HEADER_BYTES = 1 << 24


def array(conversion: Conversion, value: Any, path: Path) -> JSON:
    """Return an array as an object that JSON has."""
    numpy = sys.modules["numpy"]
    if type(value) is not numpy.ndarray and type(value) is not numpy.memmap:
        raise unsupported(
            value, path, "it is more than an array", "Return numpy.asarray(…) of it, or a dict of its parts."
        )
    _check_type(value, path)
    return conversion.content(_content(value))


def scalar(conversion: Conversion, value: Any, path: Path) -> JSON:
    """Return a numpy scalar as an object that JSON has."""
    numpy = sys.modules["numpy"]
    if type(value).__module__ != "numpy":
        raise unsupported(value, path, "its type is not one of numpy")
    if isinstance(value, numpy.str_):
        return {"$scalar": ["U", text("".join(value))]}
    if isinstance(value, numpy.bytes_):
        return {"$scalar": ["S", conversion.to_json(bytes(value), path)]}
    _check_type(value, path)
    if value.dtype.kind in "biu":
        return {"$scalar": [value.dtype.str, value.item()]}
    if value.dtype.kind == "f" and value.dtype.itemsize <= 8:
        return {"$scalar": [value.dtype.str, real(value.item())]}
    return {"$scalar": conversion.inline(_content(numpy.asarray(value)))}


def restored_scalar(parts: Any) -> Any:
    """Return a numpy scalar.

    Args:
        parts: Its type and value, or an array of zero dimensions.
    """
    import numpy

    if not isinstance(parts, list):
        return parts[()]
    name, value = parts
    return numpy.dtype(name).type(value)


def from_bytes(data: bytes | bytearray) -> Any:
    """Return the array of an ``.npy`` file. It uses the memory of a bytearray, and is a copy of bytes.

    Raises:
        ValueError: This is no such file.
    """
    import numpy
    from numpy.lib import format as npy

    version = npy.read_magic(io.BytesIO(data[:8]))
    if version not in ((1, 0), (2, 0)):
        return npy.read_array(io.BytesIO(data), allow_pickle=False, max_header_size=_MAX_HEADER_BYTES)
    is_first = version == (1, 0)
    width = 2 if is_first else 4
    start = 8 + width + int.from_bytes(data[8 : 8 + width], "little")
    read = npy.read_array_header_1_0 if is_first else npy.read_array_header_2_0
    shape, is_fortran, dtype = read(io.BytesIO(data[8:start]), max_header_size=_MAX_HEADER_BYTES)
    if dtype.hasobject:
        raise ValueError("an array of Python objects")
    if not isinstance(data, bytearray):
        data = bytearray(data)
    buffer = memoryview(data)[start:] if len(data) > start else None
    return numpy.ndarray(shape, dtype, buffer=buffer, order="F" if is_fortran else "C")


def mapped(path: FilePath) -> Any:
    """Return the array of an ``.npy`` file, which is mapped into memory.

    Raises:
        ValueError: This is no such file.
        OSError: It cannot be mapped.
    """
    import numpy
    from numpy.lib import format as npy

    return npy.open_memmap(path, mode="c", max_header_size=_MAX_HEADER_BYTES).view(numpy.ndarray)


def _content(value: Any) -> Content:
    return Content(kind="npy", size=value.nbytes, write=partial(_write, value))


def _write(value: Any, write: Write) -> None:
    """Write an ``.npy`` file, without a copy of the array if its memory is in one piece."""
    from numpy.lib import format as npy

    flags = value.flags
    if value.dtype.names is None and value.nbytes and (flags.c_contiguous or flags.f_contiguous):
        header = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a user attached to the type is not saved
            npy.write_array_header_1_0(header, npy.header_data_from_array_1_0(value))
        write(header.getbuffer())
        write(value.reshape(-1, order="C" if flags.c_contiguous else "F").view("u1"))
        return
    file: Any = _Writer(write)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        npy.write_array(file, value, allow_pickle=False)


class _Writer:
    """The part of a file that ``numpy`` uses."""

    def __init__(self, write: Write) -> None:
        self.write = write


def _check_type(value: Any, path: Path) -> None:
    """Check that the type of an array can be written.

    Raises:
        UnsupportedValueError: It has Python objects, or is not one of numpy.
    """
    from numpy.lib import format as npy

    dtype = value.dtype
    if dtype.hasobject:
        remedy = "Return a list, or an array of another type (values.astype(…))."
        raise unsupported(value, path, f"its type {dtype} has Python objects", remedy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            is_known = npy.descr_to_dtype(npy.dtype_to_descr(dtype)) == dtype
        except (TypeError, ValueError):
            is_known = False
    if not is_known:
        raise unsupported(value, path, f"its type {dtype} cannot be saved by numpy")
