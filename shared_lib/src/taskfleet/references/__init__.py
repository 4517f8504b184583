"""Values of graph tasks as JSON text, and large ones as files.

What JSON has is written by value. Everything else is an object with one key that begins with ``$``:

=============================================================  ====================================================================
``{"$tuple": […]}``, ``$set``, ``$frozenset``                  the items; those of a set in the order of their texts
``{"$map": [[key, value], …]}``                                a dict whose keys are not all text
``{"$dict": {…}}``                                             a dict with one key that begins with ``$``
``{"$int": "…"}``, ``{"$float": "nan"}``, ``{"$text": "…"}``   a very long integer (hexadecimal); NaN or infinity; text with half of a
                                                               character (base64 of its UTF-8 bytes)
``$complex`` ``$decimal`` ``$path`` ``$uuid``                  its parts or its text
``$date`` ``$time`` ``$datetime`` ``$timedelta``               see ``times``
``$object`` ``$enum``                                          a dataclass, a named tuple, a member of an enumeration: see ``classes``
``$scalar`` ``$npy``                                           numpy: see ``arrays``
``$frame`` ``$series`` ``$table`` ``$batch``                   pandas and pyarrow: see ``frames``
``$timestamp`` ``$duration`` ``$missing``                      single values of pandas
``$bytes`` ``$bytearray``                                      base64
``$pickle``                                                    the version of Python and base64; only if the app declares it
``{"$file": {"name", "bytes", "sha256", "as"}}``               a file of the store that has one of these values, or the JSON text itself
=============================================================  ====================================================================

The same value gives the same text, in every process. A value comes back with its type; what two containers share, each has for itself.
"""

from taskfleet.references.decoding import decode, decode_plain
from taskfleet.references.encoding import INLINE_BYTES, as_file, encode, encode_plain
from taskfleet.references.scanning import names_of_files
from taskfleet.references.store import Store

__all__ = ["INLINE_BYTES", "Store", "as_file", "decode", "decode_plain", "encode", "encode_plain", "names_of_files"]
