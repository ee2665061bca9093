"""Digests of what the codec, the exchanges and the methods compute, to the bit.

    python -m experiments.checks.digests

prints SHA-256 digests by group. A change that is to move code and no bit prints the
same lines before and after. `payloads`, `exchanges` and `hierarchical` are functions of
the specification alone (integer rounding, exact products), so they are stored here; the
command exits with 1 where one is another, and `tests/codec/test_digests.py` compares
some. `trajectories` also depend on how XLA contracts a user's own arithmetic on this
machine, so compare those on one machine.
"""

import functools
import hashlib
import itertools
import math
import sys
from collections.abc import Callable, Collection, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, PartitionSpec

import qgenx_jax as qgenx
from experiments.checks.stored import STORED

NORMS = (1, 2, math.inf)
SIZES = (1, 7, 64, 1000, 2500)


def digest(arrays: Iterator[Any]) -> str:
    """SHA-256 of arrays with their dtypes and shapes, 16 hexadecimal digits."""
    total = hashlib.sha256()
    for array in arrays:
        array = np.asarray(array)
        total.update(f"{array.dtype}{array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()[:16]


def vector(size: int, seed: int, dtype: Any, *, exact_sums: bool) -> np.ndarray:
    """A vector that every machine makes alike.

    With `exact_sums` small whole numbers below a power of two, so that norms of order 1
    and 2 do not depend on the order of their sums; else of many magnitudes, with zeros.
    """
    rng = np.random.default_rng(seed)
    if exact_sums:
        values = rng.integers(-128, 129, size).astype(np.float64)
        values[::64] = 128.0  # the largest of buckets of 64 or more, and of the first
        return values.astype(dtype)
    mantissa = rng.integers(-(2**20), 2**20, size) / 2**20
    values = mantissa * 2.0 ** rng.integers(-10, 4, size)
    values[rng.random(size) < 0.05] = 0.0
    return values.astype(dtype)


def quantizers() -> Iterator[tuple[str, qgenx.Quantizer]]:
    """(group, quantizer): every family, width and norm, and some bucket sizes."""
    sizes = itertools.cycle((64, 1000, 1024, None, 65))
    for norm in NORMS:
        for bits in range(1, 9):
            by = {"norm": norm, "bucket_size": next(sizes)}
            yield "uniform", qgenx.uniform(bits, **by)
            if bits > 1:
                yield "exponential", qgenx.exponential(bits, **by)
        for levels in ([1.0], [0.1, 0.4, 1.0], list(np.linspace(0.05, 1, 20))):
            by = {"norm": norm, "bucket_size": next(sizes)}
            yield "user_levels", qgenx.user_levels(levels, **by)
    for bits in range(1, 9):
        yield "min_max", qgenx.min_max(bits, bucket_size=next(sizes))
    for norm in NORMS:
        for levels in ([1.0], [0.1, 0.4, 1.0], [0.05, 0.3, 0.5, 1.0], [0.5**3, 1.0]):
            by = {"norm": norm, "bucket_size": next(sizes)}
            yield "without zero", qgenx.user_levels(levels, zero=False, **by)
        for levels in ([-1, 1], [-1, -0.1, 0.4, 1], list(np.linspace(-1, 1, 9))):
            by = {"norm": norm, "bucket_size": next(sizes)}
            yield "signed", qgenx.user_levels(levels, **by)
    for levels in 2 * ([1.0], [0.1, 0.4, 1.0], list(np.linspace(0.05, 1, 20))):
        size = next(sizes)
        yield "range", qgenx.user_levels(levels, norm="range", bucket_size=size)
    for bits in range(2, 9):
        yield "dithered", qgenx.dithered(bits, bend=0.7, bucket_size=next(sizes))
    for bits in (2, 4, 8):
        for size in (16, 64, 1024):
            yield "rotated", qgenx.rotated(qgenx.uniform(bits, bucket_size=size))


def payloads(some: Collection[int] | None = None) -> dict[str, str]:
    """By family, of the bytes and of the decoded values of many vectors.

    Args:
        some: numbers of the quantizers; None for all.
    """
    found: dict[str, list[Any]] = {}
    dtypes = itertools.cycle(("float32", "bfloat16", "float32", "float16"))
    for index, (group, quantizer) in enumerate(quantizers()):
        size, dtype = SIZES[index % len(SIZES)], next(dtypes)
        if some is not None and index not in some:
            continue
        exact_sums = quantizer.norm in (1, 2)
        x = jnp.asarray(vector(size, index, np.float32, exact_sums=exact_sums))
        payload = quantizer.encode(index, x.astype(dtype))
        # what is dithered draws its bits again
        key = index if quantizer.family == "dithered" else None
        values = quantizer.decode(payload, key=key).astype(jnp.float32)
        found.setdefault(group, []).extend([payload.data, values])
    return {f"payloads {group}": digest(iter(x)) for group, x in found.items()}


def trees(workers: int) -> dict[str, Any]:
    """A tree of leaves of several shapes and dtypes, one entry per worker."""
    shapes = {"a": (48, 64), "b": (64,), "c": (1500,), "d": (), "e": (3, 700)}
    dtypes = {"c": jnp.bfloat16, "b": jnp.float16}
    return {
        name: jnp.stack(
            [
                jnp.asarray(
                    vector(math.prod(shape), 10 * k + i, np.float32, exact_sums=False)
                )
                .reshape(shape)
                .astype(dtypes.get(name, jnp.float32))
                for k in range(workers)
            ]
        )
        for i, (name, shape) in enumerate(shapes.items())
    }


def configurations() -> Iterator[tuple[str, tuple, dict[str, Any]]]:
    """(name, arguments, keywords) of `qgenx.exchange`."""
    yield "exact", (None,), {}
    grouped = {"wide": qgenx.uniform(3), "narrow": qgenx.min_max(5), "rest": None}
    labels = {"a": "wide", "b": "rest", "c": "narrow", "d": "rest", "e": "wide"}
    for collective in ("all_gather", "reduce_scatter"):
        for name, quantizer in {
            "uniform(4)": qgenx.uniform(4),
            "uniform(8, 200)": qgenx.uniform(8, bucket_size=200),
            "uniform(1)": qgenx.uniform(1, bucket_size=64),
            "min_max(2)": qgenx.min_max(2),
            "levels": qgenx.user_levels([0.1, 0.4, 1.0]),
            "without zero": qgenx.user_levels([0.1, 0.4, 1.0], zero=False),
            "signed": qgenx.user_levels([-1.0, -0.3, 0.1, 1.0]),
            "range": qgenx.user_levels([0.1, 0.4, 1.0], norm="range"),
            "one bucket": qgenx.uniform(2, bucket_size=None),
            "dithered": qgenx.dithered(3, bend=0.7),
            "rotated": qgenx.rotated(qgenx.dithered(4, bend=0.7, bucket_size=64)),
        }.items():
            yield f"{collective} {name}", (quantizer,), {"collective": collective}
        small = {"exact": qgenx.small_leaves, "collective": collective}
        yield f"{collective} small", (qgenx.uniform(4),), small
        by_label = {"labels": labels, "collective": collective}
        yield f"{collective} labels", (grouped,), by_label
    second = {"collective": "reduce_scatter", "second": qgenx.uniform(8)}
    yield "second", (qgenx.uniform(2),), second
    for collective in ("all_gather", "reduce_scatter"):
        together = {"collective": collective, "rounding": "correlated"}
        for quantizer in (qgenx.uniform(4, scale_bits=16), qgenx.exponential(3)):
            name = f"together {collective} {quantizer.family}"
            yield name, (quantizer,), together


ALONE: dict[str, Any] = {"rounding": "independent"}  # bits as in all versions


def exchanges(some: Collection[str] | None = None, workers: int = 3) -> dict[str, str]:
    """By configuration, of means and own vectors, and of what rides along.

    Args:
        some: names of configurations; None for all.
        workers: in number.
    """
    found = {}
    for name, arguments, keywords in configurations():
        if some is not None and name not in some:
            continue
        exchange = qgenx.exchange("data", *arguments, **{**ALONE, **keywords})

        def worker(tree: Any, exchange: qgenx.Exchange = exchange) -> Any:
            number = lambda own: own["a"][0, 0]  # noqa: E731
            sent, state = exchange.send(tree, exchange.init(), scalar=number)
            return sent, exchange.send(tree, state)[0]

        run = jax.jit(jax.vmap(worker, axis_name="data"))
        leaves = jax.tree.leaves(run(trees(workers)))
        found[f"exchange {name}"] = digest(iter(leaves))
    return found


def hierarchical() -> dict[str, str]:
    """Of means over 2 hosts with 4 devices each, without and with padding."""
    mesh = jax.make_mesh((2, 4), ("host", "chip"), (AxisType.Auto,) * 2)
    found = {}
    quantizers = {"uniform": qgenx.uniform(4), "min_max": qgenx.min_max(3)}
    for name, quantizer in quantizers.items():
        exchange = qgenx.exchange(
            ("host", "chip"), quantizer, collective="hierarchical", **ALONE
        )

        def worker(tree: Any, exchange: qgenx.Exchange = exchange) -> Any:
            own = jax.tree.map(lambda x: x[0], tree)
            return exchange.send(own, exchange.init())[0][0]

        spec = PartitionSpec(("host", "chip"))
        run = jax.shard_map(worker, mesh=mesh, in_specs=spec, out_specs=PartitionSpec())
        leaves = jax.tree.leaves(jax.jit(run)(trees(8)))
        found[f"hierarchical {name}"] = digest(iter(leaves))
    return found


def trajectories(workers: int = 3, iterations: int = 20) -> dict[str, str]:
    """By method, of parameters and state after some iterations."""
    problem = qgenx.problems.quadratic_game(40)
    oracle = problem.oracle("absolute")
    x = jnp.zeros(40, problem.offset.dtype)
    quantizer = qgenx.uniform(4, bucket_size=16)
    pairs: dict[str, Any] = {
        variant: qgenx.q_genx("data", quantizer, variant=variant, gamma0=0.1, **ALONE)
        for variant in ("dual_averaging", "dual_extrapolation", "optimistic")
    }
    pairs["exact optimistic"] = qgenx.q_genx(
        "data", None, variant="optimistic", **ALONE
    )
    mean = functools.partial(
        qgenx.quantized_mean, "data", quantizer, exact=None, **ALONE
    )
    pairs["extra_adam"] = qgenx.chain(
        mean(), optax.clip_by_global_norm(1.0), qgenx.extra_adam(0.01), qgenx.ema(0.9)
    )
    found = {}
    for name, pair in pairs.items():
        step = qgenx.iterate(pair, oracle, axis_name="data")
        run = qgenx.map_workers(step, "data", workers=workers)
        params, state = x, qgenx.init(pair, x, workers=workers)
        calls = 1 if pair.is_oracle_free else 2
        for t in range(iterations):
            keys = jax.random.split(jax.random.key(t), (workers, calls))
            params, state = run(params, state, keys)
        found[f"trajectory {name}"] = digest(_leaves((params, state)))
    return found


def _leaves(tree: Any) -> Iterator[Any]:
    for leaf in jax.tree.leaves(tree):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        yield jax.random.key_data(leaf) if is_key else leaf


_ALL = (payloads, exchanges, hierarchical, trajectories)
GROUPS: dict[str, Callable[[], dict[str, str]]] = {x.__name__: x for x in _ALL}


def main(names: list[str]) -> None:
    """Prints the digests of these groups, or of all; fails where one is another."""
    jax.config.update("jax_num_cpu_devices", 8)
    others = []
    for name in names or GROUPS:
        for line, value in GROUPS[name]().items():
            print(f"{value}  {line}", flush=True)
            if STORED.get(line, value) != value:
                others.append(line)
    if others:
        raise SystemExit(f"other bytes or values than before: {', '.join(others)}")


if __name__ == "__main__":
    main(sys.argv[1:])
