"""What optax expects of a transformation: a table of transformations and contracts.

`SUBJECTS` are the rows, the contracts of `contracts.py` the columns. The second part
shows for each contract a small transformation, wrong in one way, that it catches.
"""

import pickle
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest
from jax import lax

import qgenx_jax as qgenx
from tests.lib.contracts import CONTRACTS, Subject
from tests.lib.helpers import AXIS

pytestmark = pytest.mark.usefixtures("compiled_plainly")

BITS = qgenx.uniform(bits=4, bucket_size=16)


def sides(pair):
    """Both sides of a pair in turn, with one vector: X_t -> X_{t+1} in one call."""

    def update(vector, state, params=None, **extra):
        first = None if pair.is_oracle_free else vector
        to_half, state = pair.extrapolation.update(first, state, params, **extra)
        half = optax.apply_updates(params, to_half)
        to_next, state = pair.update.update(vector, state, half, **extra)
        return jax.tree.map(jnp.add, to_half, to_next), state

    return optax.GradientTransformationExtraArgs(pair.init, update)


def mean(quantizer):
    return qgenx.quantized_mean(AXIS, quantizer, exact=None)


def variant(name):
    """Q-GenX, which exchanges by itself."""
    return lambda rate, quantizer: qgenx.q_genx(
        AXIS, quantizer, variant=name, gamma0=rate
    )


def exchanged(base):
    """A pair without an exchange of its own, after an exact one in any case."""
    return lambda rate, quantizer: qgenx.chain(mean(None), base(rate))


def full_chain(rate, quantizer):
    return qgenx.chain(
        mean(quantizer),
        optax.clip_by_global_norm(1.0),
        qgenx.extra_adam(rate),
        qgenx.ema(0.9),
        qgenx.ergodic_average(),
    )


PAIRS = {
    "dual_averaging": variant("dual_averaging"),
    "dual_extrapolation": variant("dual_extrapolation"),
    "optimistic": variant("optimistic"),
    "extra_adam": exchanged(qgenx.extra_adam),
    "extra_sgd_momentum": exchanged(lambda rate: qgenx.extra_sgd(rate, 0.9)),
    "extragradient_sgd": exchanged(lambda rate: qgenx.extragradient(optax.sgd(rate))),
    "chain": full_chain,
}


def driven(driver, pair, quantizer):
    return Subject(lambda rate: driver(pair(rate, quantizer)), 0.05)


# the sides exchange exactly: the codec costs most of a compilation, and is above
SUBJECTS = {
    "quantized_mean-exact": Subject(lambda rate: mean(None), None),
    "quantized_mean-4_bits": Subject(lambda rate: mean(BITS), None),
    "optimistic": Subject(
        lambda rate: optax.chain(mean(BITS), qgenx.optimistic(optax.adam(rate))), 0.05
    ),
    **{
        f"alternating-{name}": driven(qgenx.alternating, pair, BITS)
        for name, pair in PAIRS.items()
    },
    **{f"sides-{name}": driven(sides, pair, None) for name, pair in PAIRS.items()},
}


# (transformation, contract) -> reason: what is known to be broken
def cells():
    for row, subject in SUBJECTS.items():
        for column in CONTRACTS:
            if column == "inject_hyperparams" and subject.rate is None:
                continue  # there is no number to inject
            yield pytest.param(row, column, id=f"{row}-{column}")


@pytest.mark.parametrize(("row", "column"), list(cells()))
def test_conformance(row, column):
    CONTRACTS[column](SUBJECTS[row])


def make_sound(rate):
    """The mean gradient's descent, which keeps every contract."""

    def update(updates, state, params=None, **extra):
        return descend(updates, rate), state + 1

    return optax.GradientTransformationExtraArgs(count_from_0, update)


def count_from_0(params):
    return jnp.zeros((), jnp.int32)


def descend(updates, rate=0.05):
    return jax.tree.map(lambda g: (-rate * lax.pmean(g, AXIS)).astype(g.dtype), updates)


def broken(init=count_from_0, change=None, count=lambda count: count + 1):
    """The sound transformation with another init, last change or new state."""

    def update(updates, state, params=None, **extra):
        moves = descend(updates)
        return moves if change is None else change(moves), count(state)

    return Subject(lambda _: optax.GradientTransformationExtraArgs(init, update), None)


def make_strict(_):
    """Knows no extra arguments."""
    return optax.GradientTransformation(
        count_from_0, lambda updates, state, params=None: (descend(updates), state + 1)
    )


def make_impure(_):
    calls = []

    def change(moves):
        calls.append(1)
        return jax.tree.map(lambda m: m * len(calls), moves)

    return broken(change=change).transformation


def make_deaf(rate):
    """Takes an injected number for no number at all."""
    return make_sound(rate if isinstance(rate, float) else 0.05)


def reads_values(params):
    return jnp.zeros((), jnp.int32) if float(params["w"].sum()) else None


def doubled_in_shard_map(moves):
    # in shard_map JAX tracks what varies over workers
    tracked = bool(jax.typeof(lax.axis_index(AXIS)).mat.varying)
    return jax.tree.map(lambda m: m * (2 if tracked else 1), moves)


def takes_every_entry(moves):
    return {name: entry.astype(entry.dtype) for name, entry in moves.items()}


def in_float32(moves):
    return jax.tree.map(lambda m: m.astype(jnp.float32), moves)


def in_bfloat16(moves):
    return jax.tree.map(lambda m: m.astype(jnp.bfloat16), moves)


class Unpicklable(NamedTuple):
    """Refuses to be pickled, as a class made inside a function does."""

    count: jax.Array

    def __reduce__(self):
        raise pickle.PicklingError("made inside a function")


BROKEN = {
    "extra_args": (Subject(make_strict, None), "must be ignored"),
    "abstract_init": (broken(reads_values), "must take shapes"),
    "pure": (Subject(make_impure, None), "second trace"),
    "no_recompile": (broken(count=lambda count: count + 1.0), "compiled for again"),
    "float32": (broken(change=in_bfloat16), "updates for float32"),
    "bfloat16": (broken(change=in_float32), "updates for bfloat16"),
    "float16": (broken(change=in_float32), "updates for float16"),
    "float64": (broken(change=in_float32), "updates for float64"),
    "control_flow": (broken(count=lambda count: (count, count)), "in cond and scan"),
    "donation": (
        broken(lambda params: params, count=lambda x: jax.tree.map(jnp.copy, x)),
        "shares a buffer",
    ),
    "trees": (
        broken(change=lambda m: (jax.tree.leaves(m)[0], m)[1]),
        "must be taken as parameters",
    ),
    "vmap_and_shard_map": (broken(change=doubled_in_shard_map), "differ"),
    "pickling": (
        broken(lambda _: Unpicklable(jnp.zeros(())), count=lambda state: state),
        "survive pickle",
    ),
    "inject_hyperparams": (Subject(make_deaf, 0.05), "twice the rate"),
    "masked": (broken(change=takes_every_entry), "must run"),
    "partition": (broken(change=takes_every_entry), "must run"),
}


@pytest.mark.quick
@pytest.mark.parametrize("column", CONTRACTS)
def test_each_contract_can_be_kept_and_broken(column):
    CONTRACTS[column](Subject(make_sound, 0.05))
    subject, message = BROKEN[column]
    with pytest.raises(AssertionError, match=message):
        CONTRACTS[column](subject)
