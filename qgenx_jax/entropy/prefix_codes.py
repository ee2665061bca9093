"""Prefix codes as tables: the bits of each symbol, and how many they are."""

import functools
import heapq
import itertools
from typing import Any, NamedTuple

import numpy as np

from qgenx_jax import _checks


class PrefixCode(NamedTuple):
    """The bit strings of symbols 0, 1, ..., none the beginning of another.

    Attributes:
        words: uint64, a string's bits as a number, the first one highest.
        lengths: int64, bits; 0 for a symbol that does not occur, or is the only one.
    """

    words: np.ndarray
    lengths: np.ndarray


def huffman_lengths(counts: Any) -> np.ndarray:
    """Lengths of a Huffman code: the least mean length of all codes of single symbols.

        H(p) <= sum_j p_j length_j < H(p) + 1

    Args:
        counts: how often each symbol occurs, whole numbers.

    Returns:
        int64, bits of each symbol; 0 for those that do not occur, and for one alone.

    Raises:
        ValueError: for counts that are not such.

    Example:
        >>> import qgenx_jax as qgenx
        >>> qgenx.entropy.huffman_lengths([50, 30, 20, 0])
        array([1, 2, 2, 0])
    """
    table = np.asarray(counts)
    if table.ndim != 1 or table.dtype.kind not in "iu" or (table < 0).any():
        rule = "must be one row of whole numbers of at least 0"
        raise _checks.refuse("counts", rule, counts, "count codes by np.bincount")
    lengths = np.zeros(table.size, np.int64)
    order = itertools.count()  # equal counts: the first one made first
    heap = [(int(table[j]), next(order), [j]) for j in np.flatnonzero(table)]
    heapq.heapify(heap)
    while len(heap) > 1:
        (one, _, left), (other, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        lengths[left + right] += 1
        heapq.heappush(heap, (one + other, next(order), left + right))
    return lengths


def canonical(lengths: np.ndarray) -> PrefixCode:
    """The code of these lengths whose words grow with length, and then with symbol."""
    words = np.zeros(lengths.size, np.uint64)
    word, before = 0, 0
    for symbol in np.lexsort((np.arange(lengths.size), lengths)):
        length = int(lengths[symbol])
        if length:
            word <<= length - before
            words[symbol], before = word, length
            word += 1
    return PrefixCode(words, lengths)


def elias_gamma(largest: int) -> PrefixCode:
    """Elias's gamma code of 1, ..., largest, at these places: 2 floor(log2 n) + 1 bits.

    Place 0 has none.

    Raises:
        ValueError: if `largest` is no whole number of at least 1.

    Example:
        >>> import qgenx_jax as qgenx
        >>> qgenx.entropy.elias_gamma(4).lengths
        array([0, 1, 3, 3, 5])
    """
    largest = _checks.whole_number("largest", largest, 1, 2**20)
    n = np.arange(largest + 1)
    lengths = 2 * np.frexp(n)[1].astype(np.int64) - 1
    lengths[0] = 0
    return PrefixCode(n.astype(np.uint64), lengths)


def elias_omega(largest: int) -> PrefixCode:
    """Elias's omega code of 1, ..., largest, at these places; place 0 has none.

    A number is preceded by its length less one, in the same way, down to 1, and
    followed by a zero.

    Raises:
        ValueError: if `largest` is no whole number of at least 1.

    Example:
        >>> import qgenx_jax as qgenx
        >>> qgenx.entropy.elias_omega(4).lengths
        array([0, 1, 3, 3, 6])
    """
    return _omega(_checks.whole_number("largest", largest, 1, 2**20))


@functools.lru_cache(maxsize=8)
def _omega(largest: int) -> PrefixCode:
    words, lengths = np.zeros(largest + 1, np.uint64), np.zeros(largest + 1, np.int64)
    for n in range(1, largest + 1):
        word, length, rest = 0, 1, n
        while rest > 1:
            word |= rest << length
            length += rest.bit_length()
            rest = rest.bit_length() - 1
        words[n], lengths[n] = word, length
    return PrefixCode(words, lengths)


def with_signs(code: PrefixCode, zero: int, symbols: int) -> PrefixCode:
    """A code of c = 0, 1, ...: that of |c - zero|, and a bit for the sign unless 0."""
    c = np.arange(symbols)
    magnitude, signed = np.abs(c - zero), c != zero
    words, lengths = code.words[magnitude], code.lengths[magnitude]
    shift = signed.astype(np.uint64)
    return PrefixCode((words << shift) | (c < zero), lengths + signed)
