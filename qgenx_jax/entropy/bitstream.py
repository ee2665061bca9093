"""Bit strings to bytes, and prefix codes read at many places of a stream at once.

NumPy has no loop that goes bit by bit. A stream is therefore cut into chunks whose
beginnings are known, and all are read in step: a look into a table of the next bits
gives up to 8 codes of each chunk, as the bytes of one number.
"""

from collections.abc import Iterable

import numpy as np

from qgenx_jax.entropy.prefix_codes import PrefixCode

AT_ONCE = 8
"""Codes that one look into a table may give."""
LANES = 4096
"""Chunks that are read in step; what they need stays in a cache."""
TURNS = 8
"""Looks into the table between those at codes that it does not hold."""
LOW = 40
"""Bits of a lane's state for its place in the stream; those above for that in codes."""


def write(strings: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Strings one after the other, as uint8; zeros fill the last byte.

    Args:
        strings: some at a time, words (uint64, as in `PrefixCode`) and their lengths
            (int64, up to 64). Those of no bits are left out. Some ten thousand at a
            time stay in a cache.
    """
    parts, start, last = [np.zeros(0, np.uint64)], 0, np.zeros(1, np.uint64)
    for words, lengths in strings:
        words, lengths = _joined(words, lengths)
        some = lengths > 0
        if not some.all():
            words, lengths = words[some], lengths[some]
        if not words.size:
            continue
        ends = np.cumsum(lengths) + start
        out = np.zeros((int(ends[-1]) >> 6) + 2, np.uint64)
        out[0] = last[0]
        _write(out, ends, words, lengths)
        full, start = divmod(int(ends[-1]), 64)
        parts.append(out[:full])
        last = out[full : full + 1]
    data = np.concatenate([*parts, last]).astype(">u8").view(np.uint8)
    return data[: data.size - 8 + -(-start // 8)]


def _joined(words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same bits in fewer strings: two neighbours to one, as long as they fit."""
    while words.size > 1:
        if words.size % 2:  # by a string of no bits
            words, lengths = np.append(words, np.uint64(0)), np.append(lengths, 0)
        right = lengths[1::2]
        sums = lengths[::2] + right
        # 64 bits that go beyond a word of none are not shifted
        if sums.max() > 64 or right.max() > 63:
            break
        words = (words[::2] << right.astype(np.uint64)) | words[1::2]
        lengths = sums
    return words, lengths


def _write(
    out: np.ndarray, ends: np.ndarray, words: np.ndarray, lengths: np.ndarray
) -> None:
    """Into words of 64 bits, from the places where they begin to where they end."""
    begins = ends - lengths
    place, inside = begins >> 6, (begins & 63).astype(np.uint64)
    left = words << (64 - lengths).astype(np.uint64)
    firsts = np.flatnonzero(np.diff(place, prepend=-1))
    out[place[firsts]] |= np.bitwise_or.reduceat(left >> inside, firsts)
    # of the strings that begin in a word only the last one may go on into the next
    over = np.flatnonzero((ends - 1) >> 6 > place)
    out[place[over] + 1] |= left[over] << (np.uint64(64) - inside[over])


class _Words:
    """The words of a code, in the order of their bits from the left."""

    def __init__(self, code: PrefixCode) -> None:
        some = np.flatnonzero(code.lengths)
        left = code.words[some] << (64 - code.lengths[some]).astype(np.uint64)
        order = np.argsort(left)
        self._left, self._symbols = left[order], some[order]
        self._lengths = code.lengths[self._symbols]

    def search(self, window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first symbol of windows of 64 bits, and its length."""
        found = np.searchsorted(self._left, window, side="right") - 1
        found = np.maximum(found, 0)  # bits of no word: of a stream made by hand
        return self._symbols[found], self._lengths[found]

    def table(self, bits: int) -> tuple[np.ndarray, np.ndarray]:
        """The same of all windows of a few bits; length 0 where they hold none."""
        window = np.arange(2**bits, dtype=np.uint64) << np.uint64(64 - bits)
        found = np.searchsorted(self._left, window, side="right") - 1
        found = np.maximum(found, 0)
        lengths = self._lengths[found]
        # not so where the window ends, or its bits begin no word
        differs = (window ^ self._left[found]) >> (64 - lengths).astype(np.uint64)
        whole = (lengths <= bits) & (differs == 0)
        return self._symbols[found], np.where(whole, lengths, 0)


class Reader:
    """What comes next in a stream, by a table of its next bits.

    A step gives codes, or with `runs` pairs: a run, 1 more than how often `fill` comes,
    and the code that ends it.
    """

    def __init__(
        self, code: PrefixCode, bits: int, runs: PrefixCode | None = None, fill: int = 0
    ) -> None:
        """Args: of codes, the table's bits (16 at most), of runs, what runs are of."""
        self._values, self.bits, self.fill = _Words(code), bits, fill
        self._runs = None if runs is None else _Words(runs)
        symbols, lengths = self._values.table(bits)
        run = before = np.zeros(2**bits, np.int64)
        if self._runs is not None:
            run, before = self._runs.table(bits)
        window, rest = np.arange(2**bits), 2**bits - 1
        used, count = np.zeros(2**bits, np.int64), np.zeros(2**bits, np.int64)
        going = np.ones(2**bits, bool)
        self.packed = np.full(2**bits, fill * 0x0101010101010101, np.uint64)
        self.skip = np.zeros(2**bits, np.int64)
        """Places before the first byte of `packed`, all but the last of a run."""
        for k in range(AT_ONCE):
            index = (window << used) & rest
            after, zeros = index, 0
            if self._runs is not None:
                after, zeros = (index << before[index]) & rest, run[index] - 1
                going = going & (before[index] > 0)
            if k == 0:
                self.skip += zeros
                zeros = 0
            place = count + zeros
            length = before[index] + lengths[after]
            fits = (lengths[after] > 0) & (used + length <= bits) & (place < AT_ONCE)
            going = going & fits
            byte = (symbols[after] ^ fill).astype(np.uint64)
            shift = (8 * np.minimum(place, AT_ONCE - 1)).astype(np.uint64)
            self.packed ^= np.where(going, byte << shift, np.uint64(0))
            used, count = used + going * length, np.where(going, place + 1, count)
        self.skip *= count > 0
        self.step = ((count + self.skip) << LOW) + used
        """What a state grows by; 0 where the table does not hold a step."""
        self.has_long = bool((self.step == 0).any())

    def one(self, data: np.ndarray, bit: np.ndarray) -> tuple:
        """At bits of a stream: runs, the codes that end them, and the bits of both."""
        run, before = np.ones(bit.size, np.int64), np.zeros(bit.size, np.int64)
        if self._runs is not None:
            run, before = self._runs.search(_window(data, bit))
        symbols, used = self._values.search(_window(data, bit + before))
        return run, symbols, before + used


def _window(data: np.ndarray, bit: np.ndarray) -> np.ndarray:
    """The 57 bits or more at bits of a stream, highest first, zeros after the last."""
    byte = np.minimum(bit >> 3, data.size - 8)
    each = data[byte[:, None] + np.arange(8)]
    return each.view(">u8")[:, 0].astype(np.uint64) << (bit & 7).astype(np.uint64)


def read(
    reader: Reader, data: np.ndarray, begins: np.ndarray, size: int, chunk: int
) -> np.ndarray:
    """uint8 codes: `size` in all, of chunks that begin at these bits."""
    parts = []
    for first in range(0, begins.size, LANES):
        some = begins[first : first + LANES]
        byte = min(int(some[0]) >> 3, data.size)
        after = begins[first + LANES : first + LANES + 1]
        end = int(after[0] >> 3) + 1 if after.size else data.size
        count = min(size - first * chunk, some.size * chunk)
        parts.append(_read(reader, data[byte:end], some - 8 * byte, count, chunk))
    return np.concatenate(parts)


def _read(
    reader: Reader, data: np.ndarray, begins: np.ndarray, size: int, chunk: int
) -> np.ndarray:
    data = np.concatenate([data, np.zeros(16, np.uint8)])
    wide = data.astype(np.int32)
    next_24 = (wide[:-2] << 16) | (wide[1:-1] << 8) | wide[2:]
    stride, lanes = chunk + AT_ONCE, np.arange(begins.size)
    out = np.full(begins.size * stride + AT_ONCE, reader.fill, np.uint8)
    # eight bytes from any place on, as one number
    eight = np.ndarray((out.size - 7,), "<u8", out, strides=(1,))
    state = ((lanes * stride) << LOW) + begins
    end = ((lanes * stride) + np.minimum(size - lanes * chunk, chunk)) << LOW
    low, mask, shift = (1 << LOW) - 1, 2**reader.bits - 1, 24 - reader.bits
    has_runs, turn = bool(reader.skip.any()), 0
    while state.size:
        bit = state & low
        window = next_24.take(bit >> 3, mode="clip") >> (shift - (bit & 7))
        index = window & mask
        place, step = state >> LOW, reader.step.take(index)
        if has_runs:
            place += reader.skip.take(index)
        eight[place] = reader.packed.take(index)
        state += step
        # chunks whose next code is no whole one in the table wait for each other
        turn += reader.has_long
        if turn == TURNS and (long := np.flatnonzero(step == 0)).size:
            run, symbols, used = reader.one(data, bit[long])
            state[long] += (run << LOW) + used
            # a run at the end of a chunk has no code after it
            place = state[long] >> LOW
            inside = place <= end[long] >> LOW
            out[place[inside] - 1] = symbols[inside]
        turn %= TURNS
        going = state < end
        if not going.all():
            state, end = state[going], end[going]
    rows = out[: begins.size * stride].reshape(-1, stride)
    return rows[:, :chunk].reshape(-1)[:size]
