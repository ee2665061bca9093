"""What the benchmark of the codec times: the library's functions, floors and peers.

The library's are those that an exchange runs, on one part of a tree, levels traced as
an exchange's state has them.
"""

import importlib.util
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app

import qgenx_jax as qgenx
from experiments.benchmarks.peers import numpy_qsgd
from experiments.common import arguments
from qgenx_jax._codec import bits as random_bits
from qgenx_jax._codec import fusion
from qgenx_jax._codec.bits import Joint, Stream
from qgenx_jax._exchange.parts import Part, parts

FAMILIES = (
    "uniform",
    "exponential",
    "min_max",
    "levels",
    "levels_without_zero",
    "signed_levels",
    "range_levels",
    "dithered",
    "rotated",
    "best",
)
BESIDE_PEERS = ("uniform", "dithered", "best")
"""Families that are timed beside others' QSGD of the same bits."""
PEER_BITS = range(2, 9)  # QSGD with one bit has no level
HAS_TORCH = importlib.util.find_spec("torch") is not None

Calls = dict[str, Callable[[], Any]]


class Program(NamedTuple):
    """A jitted function and what it is called with."""

    function: Any
    arguments: tuple

    def __call__(self) -> Any:
        """One run."""
        return self.function(*self.arguments)

    def compile(self) -> Any:
        """The compiled program, to be called with the arguments, or to be looked at."""
        return self.function.lower(*self.arguments).compile()


Programs = dict[str, Program]


def cases(
    families: list[str], bits: list[str], exponents: list[str]
) -> list[tuple[str, int, int]]:
    """All combinations of what the flags of these names list.

    Raises:
        app.UsageError: for what is none of these.
    """
    return list(
        itertools.product(
            arguments.names("families", families, FAMILIES),
            arguments.whole_numbers("bits", bits, 1, 8),
            arguments.whole_numbers("exponents", exponents, 10, 26),
        )
    )


def create_quantizer(family: str, bits: int) -> qgenx.Quantizer | None:
    """The family's quantizer by its factory, or None if it has none of so few bits.

    Levels are squares of equal steps, denser towards zero.
    """
    if family in ("exponential", "levels") and bits < 2:
        return None
    if family == "levels":
        count = 2 ** (bits - 1) - 1
        squares = [(j / count) ** 2 for j in range(1, count + 1)]
        return qgenx.user_levels(squares)
    if family in ("levels_without_zero", "signed_levels"):
        count = 2 ** (bits - 1)
        squares = [((2 * j + 1) / (2 * count - 1)) ** 2 for j in range(count)]
        if family == "signed_levels":
            squares = [*(-x for x in reversed(squares)), *squares]
        return qgenx.user_levels(squares, zero=False)
    if family == "range_levels":
        squares = [(j / (2**bits - 1)) ** 2 for j in range(1, 2**bits)]
        return qgenx.user_levels(squares, norm="range")
    if family == "rotated":
        return qgenx.rotated(qgenx.uniform(bits))
    return getattr(qgenx, family)(bits)


def name_of(quantizer: qgenx.Quantizer) -> str:
    """The family, of FAMILIES."""
    if quantizer.rotate:
        return "rotated"
    return "best" if quantizer == qgenx.best(quantizer.bits) else quantizer.family


def beside(quantizer: qgenx.Quantizer, x: jax.Array, count: int) -> Programs:
    """`uniform` of the same bits, to be timed in the same rounds; nothing beside it."""
    if name_of(quantizer) == "uniform":
        return {}
    uniform = codec(qgenx.uniform(quantizer.bits), x, count)
    return {f"uniform {name}": uniform[name] for name in ("encode", "average")}


def quantizers(
    cases: Sequence[tuple[str, int, int]],
) -> Iterator[tuple[str, qgenx.Quantizer, int]]:
    """The cases' quantizers and exponents, each after its place among them, in words.

    Families that have none of so few bits are left out, and a line says so.

    Raises:
        app.UsageError: at the end, if all were left out.
    """
    found = 0
    for number, (family, bits, exponent) in enumerate(cases, 1):
        where = f"{number} of {len(cases)}: {family}, {bits} bits"
        quantizer = create_quantizer(family, bits)
        if quantizer is None:
            print(f"{where}: left out, the family has 2 bits at least", flush=True)
            continue
        found += 1
        yield f"{where}, 2^{exponent}", quantizer, exponent
    if not found:
        raise app.UsageError("families and bits must have one combination in common")


def bounds(x: jax.Array) -> Programs:
    """What any pass over a vector takes, and random numbers alone."""
    plus_one, copy = jax.jit(lambda x: x + 1), jax.jit(jnp.copy)
    uniform = jax.jit(lambda key: jax.random.uniform(key, x.shape))
    key = jax.random.key(1)
    return {
        "x+1": Program(plus_one, (x,)),
        "copy": Program(copy, (x,)),
        "random.uniform": Program(uniform, (key,)),
    }


def codec(quantizer: qgenx.Quantizer, x: jax.Array, count: int) -> Programs:
    """The codec's functions, and what decoding cannot be faster than.

    Args:
        quantizer: of the codec.
        x: float32 vector.
        count: K, payloads that are averaged.
    """
    size = x.size
    exchange = qgenx.exchange("data", quantizer)
    layout, levels = exchange.layout(x), exchange.init().levels

    def part_of(levels: Any) -> Part:
        (part,) = parts(layout, exchange.quantizers, exchange.second, levels)
        return part

    def mean(levels: Any, rows: jax.Array, senders: Stream | None) -> jax.Array:
        # of one leaf, as `Layout.unflatten` puts it together
        part = part_of(levels)
        return fusion.joined(part.coder.mean(rows, size, 0, senders), part.dtype)

    @jax.jit
    def encode(levels: Any, key: Any, x: jax.Array) -> jax.Array:
        return part_of(levels).coder.encode(key, x, size)

    @jax.jit
    def decode(levels: Any, data: jax.Array, sender: Stream | None) -> jax.Array:
        return mean(levels, data[None], sender)

    @jax.jit
    def average(levels: Any, arrived: jax.Array, senders: Stream | None) -> jax.Array:
        return mean(levels, arrived, senders)

    @jax.jit
    def middle(
        levels: Any, key: jax.Array, arrived: jax.Array, senders: Stream | None
    ) -> jax.Array:
        # as between the phases of reduce_scatter
        part = part_of(levels)
        return part.coder.recode(arrived, size, 0, part.second, key, None, senders)

    keys = jax.random.split(jax.random.key(2), count)
    every: Sequence[Stream] = list(keys)
    senders = sender = None
    if part_of(levels).coder.dithers:  # by bits that the receiver draws again
        if count > 1:
            numbers = range(count)
            every = [Joint(keys[0], jnp.int32(k), count, "evenly") for k in numbers]
        senders = random_bits.of_all(every[0])
        sender = random_bits.of_one(every[0])
    arrived = jnp.stack([encode(levels, stream, x) for stream in every])
    # cut here: slices among the calls would be timed with them
    key, data = keys[0], arrived[0]
    codes = arrived[:, : size * quantizer.bits // 8]
    own_codes = codes[:1]
    read, together = jax.jit(lambda rows: float_floor(rows, size)), jax.jit(add_rows)
    # by bits that K workers share; one worker alone has its own
    shared = Joint(key, jnp.int32(0), count) if count > 1 else key
    shared = shared if senders is None else every[0]
    return {
        "encode": Program(encode, (levels, key, x)),
        "together": Program(encode, (levels, shared, x)),
        "decode": Program(decode, (levels, data, sender)),
        "average": Program(average, (levels, arrived, senders)),
        "middle": Program(middle, (levels, key, arrived, senders)),
        "decode floor": Program(read, (own_codes,)),
        "average floor": Program(read, (codes,)),
        "middle floor": Program(together, (arrived,)),
    }


def add_rows(rows: jax.Array) -> jax.Array:
    """The sum of rows of bytes, modulo 256: reads all of them, and writes one.

    The floor of decoding, averaging and encoding again. Rows are added one by one:
    a reduction over the first axis compiles on CPUs to slower code.
    """
    total = rows[0]
    for row in rows[1:]:
        total += row
    return total


def float_floor(rows: jax.Array, size: int) -> list[jax.Array]:
    """Reads rows of bytes, (K, bytes), and writes `size` float32: decoding's floor.

    In one pass and with hardly any arithmetic: each sum of K bytes is converted, and
    written to as many coordinates as a byte holds codes. These lie near each other, as
    the codec's buckets have them, so that bytes are read from memory once. A width that
    does not divide 8 is a mixture of the nearest two that do, 3 bits of half the
    coordinates at 4 and half at 2, so bytes read and written are the codec's, but for
    norms. Each has an output of its own, since joining them would be a second pass.

    To read by a reduction and to write by `jnp.full` would be two passes, yet takes
    about as long where memory is the limit.
    """
    bits = 8 * rows.shape[1] // size
    low = 2 ** int(math.log2(bits))  # of 1, 2, 4, 8
    high_size = size * (bits - low) // low  # (high - bits) : (bits - low), high = 2 low
    outputs, start = [], 0
    for width, coordinates in ((2 * low, high_size), (low, size - high_size)):
        if not coordinates:
            continue
        together = 8 // width
        run = math.gcd(1024, coordinates) // together
        end = start + coordinates // together
        total = add_rows(rows[:, start:end].reshape(len(rows), -1, 1, run))
        floats = total.astype(jnp.float32)
        shape = (floats.shape[0], together, run)
        outputs.append(jnp.broadcast_to(floats, shape))
        start = end
    return outputs


def keep_torch_to(threads: int) -> None:
    """Keeps PyTorch to as many threads."""
    from experiments.benchmarks.peers import torch_qsgd

    torch_qsgd.torch.set_num_threads(threads)


def peers(x: jax.Array, bits: int, bucket: int) -> Calls:
    """QSGD by others: NumPy, and PyTorch where it is installed."""
    array, rng = np.array(x), np.random.default_rng(3)

    def in_numpy() -> tuple:
        numpy_qsgd.encode(rng, array, bits, bucket)
        return ()  # nothing of JAX's to wait for

    calls: Calls = {"NumPy QSGD": in_numpy}
    if HAS_TORCH:
        from experiments.benchmarks.peers import torch_qsgd

        tensor = torch_qsgd.torch.from_numpy(array)

        def in_torch() -> tuple:
            torch_qsgd.encode(tensor, bits, bucket)
            return ()

        calls["PyTorch QSGD"] = in_torch
    return calls
