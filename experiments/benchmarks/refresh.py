"""What it costs to fit levels while training goes on, beside levels that stay.

    python -m experiments.benchmarks.refresh [--bits=2,3,4,8] [--laws=histogram,normal]
        [--size=600000] [--workers=3] [--where=devices] [--rounds=11] [--compiles=3]
        [--iterations=10000] [--exchanges=2] [--seconds=0.18] [--output=FOLDER]

An exchange of one leaf of `size` coordinates (Student's t, 3 degrees of freedom), of
workers on simulated devices, or by `vmap` on one:

    compile s     CPU seconds of all threads to trace and to compile it, by `uniform`
                  and by `adaptive` of the same bits, and how many more in a round
    ms            of an exchange by `uniform`, and by `adaptive` with levels as they are
    refresh ms    by how much an exchange before which levels are fitted is slower, of
                  the same round and by the same program
    share         of all refreshes of the default schedule in the time that `iterations`
                  of `seconds` each take, with `exchanges` in each
    with compile  the same, with what is more to compile

All take turns in each round; medians over the rounds are printed. On simulated devices
all workers fit, each for itself, on the cores that there are; by `vmap` the fit is made
once. The default of `seconds` is the GAN program's, of the preset cifar10_small on two
cores. FOLDER gets refresh.csv, after the rows of each number of bits.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from experiments.benchmarks.compile import steps
from experiments.common import arguments, tables, timing
from qgenx_jax._codec.schedule import Refresh

_BITS = flags.DEFINE_list("bits", ["2", "3", "4", "8"], "per coordinate, 2 to 8")
_LAWS = flags.DEFINE_list("laws", ["histogram", "normal"], "of histogram, normal")
_SIZE = flags.DEFINE_integer("size", 600_000, "coordinates of a vector", 1)
_WORKERS = flags.DEFINE_integer("workers", 3, "K", 1)
_WHERE = flags.DEFINE_enum("where", "devices", ["devices", "vmap"], "of the workers")
_ROUNDS = flags.DEFINE_integer("rounds", 11, "of exchanges", 1)
_COMPILES = flags.DEFINE_integer("compiles", 3, "rounds of compiling", 1)
_ITERATIONS = flags.DEFINE_integer("iterations", 10_000, "of a training", 1)
_EXCHANGES = flags.DEFINE_integer("exchanges", 2, "of an iteration", 1)
_SECONDS = flags.DEFINE_float("seconds", 0.18, "of an iteration", 1e-9)
_OUTPUT = flags.DEFINE_string("output", "", "folder for refresh.csv")

AXIS = "data"
LAWS = ("histogram", "normal")


class Training(NamedTuple):
    """What a refresh is a part of.

    Attributes:
        iterations: how many.
        exchanges: in each.
        seconds: that each takes.
    """

    iterations: int
    exchanges: int
    seconds: float

    def refreshes(self) -> int:
        """That the default schedule has in all its exchanges."""
        counts = jnp.arange(self.iterations * self.exchanges, dtype=jnp.int32)
        return int(jnp.sum(jax.jit(jax.vmap(Refresh().is_due))(counts)))

    def share(self, seconds: float) -> float:
        """Of so many seconds in all the time that it takes."""
        return seconds / (self.iterations * self.seconds)


class Exchanged(NamedTuple):
    """An exchange of all workers, jitted, and what it is given.

    Attributes:
        run: (vectors, state) to (mean, state).
        vectors: (K, n).
        state: the first, before an exchange that fits levels where there are any to be.
    """

    run: Any
    vectors: jax.Array
    state: qgenx.ExchangeState

    def after_first(self) -> "Exchanged":
        """The same before the second exchange, which fits none."""
        known = self.state.adaptation
        assert known is not None
        # added to, the count stays where it is placed: other places, other programs
        known = known._replace(count=known.count + 1)
        return self._replace(state=self.state._replace(adaptation=known))

    def __call__(self) -> Any:
        """One exchange."""
        return self.run(self.vectors, self.state)


def exchanged(quantizer: qgenx.Quantizer, vectors: np.ndarray, where: str) -> Exchanged:
    """An exchange of vectors (K, n), by `where`: devices or vmap."""
    exchange = qgenx.exchange(AXIS, quantizer, collective="all_gather")
    if where == "vmap":
        mapped = jax.vmap(
            exchange.mean, axis_name=AXIS, in_axes=(0, None), out_axes=None
        )
        return Exchanged(jax.jit(mapped), jnp.asarray(vectors), exchange.init())
    kind = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((len(vectors),), (AXIS,), kind)
    mapped = jax.shard_map(
        lambda rows, state: exchange.mean(rows[0], state),
        mesh=mesh, in_specs=(P(AXIS), P()), out_specs=P(),
    )  # fmt: skip
    rows = jax.device_put(vectors, jax.NamedSharding(mesh, P(AXIS)))
    state = jax.device_put(exchange.init(), jax.NamedSharding(mesh, P()))
    return Exchanged(jax.jit(mapped), rows, state)


def rows_of(
    bits: int, laws: Sequence[str], vectors: np.ndarray, where: str, of: Training
) -> list[tables.Row]:
    """Of the table, for a number of bits: a row for each law."""
    named = {"uniform": exchanged(qgenx.uniform(bits), vectors, where)}
    for law in laws:
        quantizer = qgenx.adaptive(bits, law=law)
        named[law] = exchanged(quantizer, vectors, where)
    compiled = {name: [] for name in named}
    for _ in range(_COMPILES.value):
        for name, one in named.items():
            cost = steps.measure(one.run, (one.vectors, one.state))
            compiled[name].append(cost.seconds)
    calls: dict[str, Any] = {"uniform": named["uniform"]}
    for law in laws:
        calls[law] = named[law].after_first()
        calls[f"{law}, fitted"] = named[law]
    seconds = timing.rounds_side_by_side(calls, _ROUNDS.value, warm=True)
    due, found = of.refreshes(), []
    for law in laws:
        refresh = _median(seconds[f"{law}, fitted"] - seconds[law])
        more = _median(np.subtract(compiled[law], compiled["uniform"]))
        found.append(
            {
                "bits": bits,
                "law": law,
                "compile s, uniform": _median(compiled["uniform"]),
                "adaptive": _median(compiled[law]),
                "more": more,
                "ms, uniform": 1e3 * _median(seconds["uniform"]),
                "ms, adaptive": 1e3 * _median(seconds[law]),
                "refresh ms": 1e3 * refresh,
                "share": f"{of.share(due * refresh):.3%}",
                "with compile": f"{of.share(due * refresh + more):.3%}",
            }
        )
    return found


def _median(values: Any) -> float:
    return float(np.median(values))


def main(argv: list[str]) -> None:
    """Measures all combinations."""
    folder = arguments.output_folder(_OUTPUT.value, argv)
    bits = arguments.whole_numbers("bits", _BITS.value, 2, 8)
    laws = arguments.names("laws", _LAWS.value, LAWS)
    workers, size, where = _WORKERS.value, _SIZE.value, _WHERE.value
    if where == "devices":
        jax.config.update("jax_num_cpu_devices", workers)
    jax.config.update("jax_enable_compilation_cache", False)
    of = Training(_ITERATIONS.value, _EXCHANGES.value, _SECONDS.value)
    print(
        f"jax {jax.__version__}, {workers} workers by {where}, {size:,} coordinates; "
        f"{of.refreshes()} refreshes in {of.iterations:,} iterations of {of.seconds} s "
        f"with {of.exchanges} exchanges each",
        flush=True,
    )
    rng = np.random.default_rng(0)
    vectors = rng.standard_t(3, size=(workers, size)).astype(np.float32)
    small = exchanged(qgenx.adaptive(2), vectors[:, :1], where)
    steps.measure(small.run, (small.vectors, small.state))  # what only the first pays
    table: list[tables.Row] = []
    for count in bits:
        table += rows_of(count, laws, vectors, where, of)
        print(f"{count} bits: done", flush=True)
        if folder:
            tables.write_csv(table, folder / "refresh.csv")
    tables.print_table(table)
    if folder:
        print(f"\nwritten to {folder}: refresh.csv")


if __name__ == "__main__":
    arguments.run(main)
