"""Right or wrong in packed bits, model by model: the bytes that `numpy.packbits` makes of the transposed table.

Packing across a table touches a line of memory per bit. Here rows are packed along themselves, which reads memory in order, and
then blocks of 8 x 8 bits are transposed in 64-bit words (Warren 2012, "Hacker's Delight", section 7-3).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Integer, Shaped, UInt8, UInt64

ROWS = 512
"""Queries that are packed together, a multiple of 8: their words stay in the cache."""
SWAPS = ((9, 0x0055005500550055), (18, 0x0000333300003333), (36, 0x000000000F0F0F0F))
"""Shifts and masks that exchange bits, pairs and nibbles across the diagonal of 8 bytes, the first byte the lowest one."""


def packed_by_model(right: Shaped[np.ndarray, "queries models"]) -> UInt64[np.ndarray, "models words"]:
    """One bit per query, the first one the highest bit of the first byte; 1 where `right` is 1. Words of 64 queries, padded."""
    queries, models = right.shape
    width = -(-models // 8)
    packed = np.zeros((8 * width, -(-queries // 64) * 8), np.uint8)
    for start in range(0, queries, ROWS):
        rows = right[start : start + ROWS]
        along: UInt8[np.ndarray, "rows width"] = np.packbits(rows if rows.dtype == bool else rows == 1, axis=1)
        along = np.pad(along, ((0, -len(along) % 8), (0, 0)))
        blocks = np.ascontiguousarray(along.reshape(-1, 8, width).swapaxes(1, 2)).view("<u8")
        across = _transposed(blocks).view(np.uint8).reshape(len(blocks), 8 * width)
        packed[:, start // 8 : start // 8 + len(blocks)] = across.T
    return packed[:models].view(np.uint64)


def are_right_or_wrong(quality: Integer[np.ndarray, "queries models"] | Float[np.ndarray, "queries models"]) -> bool:
    """Whether every cell is 0, 1 or NaN (never run)."""
    for start in range(0, len(quality), ROWS):
        rows = quality[start : start + ROWS]
        if not ((rows == 0) | (rows == 1) | (rows != rows)).all():
            return False
    return True


def _transposed(blocks: UInt64[np.ndarray, "*blocks"]) -> UInt64[np.ndarray, "*blocks"]:
    """Every block of 8 x 8 bits transposed, in place."""
    swapped = np.empty_like(blocks)
    for shift, mask in SWAPS:
        np.right_shift(blocks, np.uint64(shift), out=swapped)
        swapped ^= blocks
        swapped &= np.uint64(mask)
        blocks ^= swapped
        swapped <<= np.uint64(shift)
        blocks ^= swapped
    return blocks
