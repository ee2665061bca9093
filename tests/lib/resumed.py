"""Optimizers whose states are saved and restored, by the key of their exchange."""

import jax
import jax.numpy as jnp
import optax

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS

VARIANTS = ["dual_averaging", "dual_extrapolation", "optimistic"]


def q_genx(variant, key=4, quantizer=None):
    quantizer = quantizer or qgenx.uniform(4, bucket_size=64)
    return qgenx.q_genx(AXIS, quantizer, variant=variant, gamma0=0.1, key=key)


def with_averages(variant, key):
    return qgenx.chain(
        q_genx(variant, key), qgenx.ergodic_average(), qgenx.ema(decay=0.9)
    )


def extra_adam(key):
    return qgenx.chain(
        qgenx.quantized_mean(AXIS, qgenx.uniform(4), key=key),
        optax.clip_by_global_norm(1.0),
        qgenx.extra_adam(optax.linear_schedule(1e-2, 1e-3, 20)),
        qgenx.ergodic_average(),
        qgenx.ema(decay=0.9),
    )


def injected(key):
    def make(gamma0):
        pair = qgenx.q_genx(
            AXIS,
            qgenx.uniform(4, bucket_size=64),
            variant="dual_extrapolation",
            gamma0=gamma0,
            key=key,
        )
        return qgenx.alternating(pair)

    return optax.inject_hyperparams(make)(gamma0=0.1)


def user_levels(key):
    quantizer = qgenx.user_levels([0.2, 0.6, 1.0])
    return qgenx.alternating(q_genx("optimistic", key, quantizer))


def of_the_past(key, projection=None):
    mean = qgenx.quantized_mean(AXIS, qgenx.uniform(4), key=key)
    return optax.chain(mean, qgenx.optimistic(optax.adam(0.01), projection=projection))


def in_a_box(params):
    return optax.projections.projection_box(params, like(params, -9), like(params, 9))


def like(params, value):
    return jax.tree.map(lambda x: jnp.full_like(x, value), params)


def constrained(key):
    quantizer = qgenx.uniform(4, bucket_size=64)
    return qgenx.q_genx(AXIS, quantizer, projection=in_a_box, key=key)


def partition(key):
    pairs = {
        "a": qgenx.extra_adam(1e-2),
        "b": qgenx.extra_sgd(1e-2, 0.9, projection=in_a_box),
    }
    return qgenx.chain(
        qgenx.quantized_mean(AXIS, qgenx.uniform(4), key=key),
        qgenx.partition(pairs, {"kernel": "a", "bias": "b"}),
    )


OPTIMIZERS = {
    **{v: lambda key, v=v: with_averages(v, key) for v in VARIANTS},
    "alternating": lambda key: qgenx.alternating(
        with_averages("dual_extrapolation", key)
    ),
    "extra_adam": extra_adam,
    "alternating extra_adam": lambda key: qgenx.alternating(extra_adam(key)),
    "inject_hyperparams": injected,
    "user_levels": user_levels,
    "optimistic of optax": of_the_past,
    "optimistic of optax, in a box": lambda key: of_the_past(key, in_a_box),
    "in a box": constrained,
    "partition": partition,
}
WITHOUT_OWN = {
    "dual_averaging",
    "extra_adam",
    "alternating extra_adam",
    "optimistic of optax",
    "optimistic of optax, in a box",
    "partition",
}
"""Those that keep no vector of a worker's own."""
