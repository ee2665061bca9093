"""Bit strings to bytes, and prefix codes read at many places of a stream at once.

NumPy has no loop that goes bit by bit. A stream is therefore cut into chunks whose
beginnings are known, and all are read in step: one vector operation for a symbol, or
for up to 4 short ones, of each chunk.
"""

import numpy as np

from qgenx_jax.entropy.prefix_codes import PrefixCode

BLOCK = 2**17
"""Strings that are joined together at a time, to stay in a cache."""
AT_ONCE = 4
"""Symbols that one look into a table may give."""


def write(words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Strings one after the other, as uint8; zeros fill the last byte.

    Args:
        words: uint64, as in `PrefixCode`.
        lengths: int64, up to 64; strings of no bits are left out.
    """
    some = lengths > 0
    if not some.all():
        words, lengths = words[some], lengths[some]
    total = int(lengths.sum())
    out = np.zeros(total // 64 + 2, np.uint64)
    start = 0
    for i in range(0, words.size, BLOCK):
        start = _write(
            out, start, *_joined(words[i : i + BLOCK], lengths[i : i + BLOCK])
        )
    return out.astype(">u8").view(np.uint8)[: -(-total // 8)]


def _joined(words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same bits in fewer strings: two neighbours to one, as long as they fit."""
    while words.size > 1 and lengths.max() <= 32:
        if words.size % 2:  # by a string of no bits
            words, lengths = np.append(words, np.uint64(0)), np.append(lengths, 0)
        right = lengths[1::2].astype(np.uint64)
        words = (words[::2] << right) | words[1::2]
        lengths = lengths[::2] + lengths[1::2]
    return words, lengths


def _write(out: np.ndarray, start: int, words: np.ndarray, lengths: np.ndarray) -> int:
    """Into words of 64 bits, from a bit on; gives the bit after the last one."""
    ends = np.cumsum(lengths) + start
    begins = ends - lengths
    place, inside = begins >> 6, (begins & 63).astype(np.uint64)
    left = words << (64 - lengths).astype(np.uint64)
    firsts = np.flatnonzero(np.diff(place, prepend=-1))
    out[place[firsts]] |= np.bitwise_or.reduceat(left >> inside, firsts)
    # of the strings that begin in a word only the last one may go on into the next
    over = np.flatnonzero((ends - 1) >> 6 > place)
    out[place[over] + 1] |= left[over] << (np.uint64(64) - inside[over])
    return int(ends[-1])


def windows(data: np.ndarray) -> np.ndarray:
    """The 64 bits that follow each byte's beginning, uint64, zeros after the last."""
    padded = np.concatenate([data, np.zeros(16, np.uint8)]).astype(np.uint64)
    found = np.zeros(data.size + 8, np.uint64)
    for i in range(8):
        found |= padded[i : i + found.size] << np.uint64(56 - 8 * i)
    return found


class Reader:
    """What comes next at bits of a stream, by a table of the next bits."""

    def __init__(self, code: PrefixCode, bits: int) -> None:
        some = np.flatnonzero(code.lengths)
        left = code.words[some] << (64 - code.lengths[some]).astype(np.uint64)
        order = np.argsort(left)
        self._left, self._symbols = left[order], some[order]
        self._lengths = code.lengths[self._symbols]
        self._shift = np.uint64(64 - bits)
        window = np.arange(2**bits, dtype=np.uint64) << self._shift
        self.symbols = np.zeros((AT_ONCE, 2**bits), some.dtype)
        self.counts = np.zeros(2**bits, np.int64)
        self.used = np.zeros(2**bits, np.int64)
        self.first_used = np.zeros(2**bits, np.int64)
        for k in range(AT_ONCE):
            found = self._search(window)
            symbols, lengths = self._symbols[found], self._lengths[found]
            # not so where the window ends, or its bits begin no word
            differs = (window ^ self._left[found]) >> (64 - lengths).astype(np.uint64)
            whole = (self.used + lengths <= bits) & (differs == 0) & (self.counts == k)
            self.symbols[k] = np.where(whole, symbols, 0)
            self.counts += whole
            self.used += np.where(whole, lengths, 0)
            if k == 0:
                self.first_used[:] = self.used
            window <<= np.where(whole, lengths, 0).astype(np.uint64)
        self.has_long = bool((self.counts == 0).any())

    def search(self, window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first symbol of windows, and its length."""
        found = self._search(window)
        return self._symbols[found], self._lengths[found]

    def _search(self, window: np.ndarray) -> np.ndarray:
        found = np.searchsorted(self._left, window, side="right") - 1
        return np.maximum(found, 0)  # bits of no word: of a stream made by hand

    def index(self, window: np.ndarray) -> np.ndarray:
        """Where the table has a window."""
        return (window >> self._shift).astype(np.int64)

    def first(self, window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `search`, by the table where that is enough."""
        index = self.index(window)
        symbols, used = self.symbols[0][index], self.first_used[index]
        if self.has_long and (long := np.flatnonzero(used == 0)).size:
            symbols[long], used[long] = self.search(window[long])
        return symbols, used


def _next(found: np.ndarray, bit: np.ndarray) -> np.ndarray:
    """The 57 bits or more at bits of a stream, highest first."""
    byte = np.minimum(bit >> 3, found.size - 1)
    return found[byte] << (bit & 7).astype(np.uint64)


def read(
    reader: Reader, data: np.ndarray, begins: np.ndarray, size: int, chunk: int
) -> np.ndarray:
    """uint8 symbols: `size` in all, of chunks that begin at these bits."""
    found, stride = windows(data), chunk + AT_ONCE
    out = np.zeros((begins.size, stride), np.uint8)
    flat, place = out.reshape(-1), np.arange(begins.size) * stride
    end = place + np.minimum(size - np.arange(begins.size) * chunk, chunk)
    tables, bit = reader.symbols.astype(np.uint8), begins
    while bit.size:
        window = _next(found, bit)
        index = reader.index(window)
        counts, used = reader.counts[index], reader.used[index]
        for k in range(AT_ONCE):
            flat[place + k] = tables[k][index]
        if reader.has_long and (long := np.flatnonzero(counts == 0)).size:
            symbols, used[long] = reader.search(window[long])
            flat[place[long]], counts[long] = symbols, 1
        place, bit = place + counts, bit + used
        going = place < end
        if not going.all():
            place, bit, end = place[going], bit[going], end[going]
    return out[:, :chunk].reshape(-1)[:size]


def read_runs(
    runs: Reader,
    values: Reader,
    data: np.ndarray,
    begins: np.ndarray,
    size: int,
    chunk: int,
    zero: int,
) -> np.ndarray:
    """As `read`, of runs of `zero` that values follow, but at the end of a chunk."""
    found, out = windows(data), np.full(size, zero, np.uint8)
    place, bit = np.arange(begins.size) * chunk, begins
    end = np.minimum(place + chunk, size)
    while bit.size:
        run, used = runs.first(_next(found, bit))
        place, bit = place + run - 1, bit + used
        going = place < end
        if not going.all():
            place, bit, end = place[going], bit[going], end[going]
        symbols, used = values.first(_next(found, bit))
        out[place] = symbols
        place, bit = place + 1, bit + used
        going = place < end
        if not going.all():
            place, bit, end = place[going], bit[going], end[going]
    return out
