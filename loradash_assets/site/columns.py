"""Named arrays and a little JSON as one text that a browser opens quickly: columns, shuffled bytes, gzip, base64.

Content before gzip: the length of the header (uint32, little-endian), the header as JSON, the arrays one after the
other. The header's `arrays` says of each: name, type (u1 u2 u4 i1 i2 i4 f4 f8, little-endian), number of values. The
bytes of an array stand by significance, all first bytes before all second ones, which compresses better.
`site_templates/js/parts.js` reads what is written here.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from loradash_assets.site.arrow import shortest

Array = NDArray[np.number[Any]]
GZIP = 16 + zlib.MAX_WBITS  # a gzip header without time and file name
LEVEL = 6  # 9 takes more than twice the time for a thousandth less
MEMORY = 5  # blocks short enough to tell one array from the next: 4% less than with 8


def pack(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> str:
    """Return the header and the arrays as base64; the same content gives the same text."""
    named = [(name, array.dtype.str[1:], array.size) for name, array in arrays.items()]
    start = msgspec.json.encode({**header, "arrays": named})
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP, MEMORY, zlib.Z_FILTERED)
    pieces = [len(start).to_bytes(4, "little"), start, *map(_shuffled, arrays.values())]
    data = b"".join(map(compressor.compress, pieces)) + compressor.flush()
    return base64.b64encode(data).decode("ascii")


def whole(values: Sequence[int]) -> Array:
    """Return whole numbers in the smallest type that holds them all."""
    array = np.asarray(values, np.int64)
    if not array.size:
        return array.astype(np.uint8)
    return array.astype(np.promote_types(np.min_scalar_type(array.min()), np.min_scalar_type(array.max())))


def recorded(values: Sequence[float]) -> Array:
    """Return numbers as float32 where each is one in its shortest decimal form, as float64 where one is not.

    The page prints a float32 in that form, so either way it prints the numbers given.
    """
    array = np.asarray(values, np.float64)
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    return single if np.array_equal(shortest(single), array, equal_nan=True) else array


def _shuffled(array: Array) -> bytes:
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return little.view(np.uint8).reshape(little.size, little.itemsize).T.tobytes()
