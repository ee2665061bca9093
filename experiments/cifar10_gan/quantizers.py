"""The exchange of a run: its quantizer, or one for small and one for large leaves."""

import math
from typing import Any

import jax
import numpy as np

import qgenx_jax as qgenx
from experiments.cifar10_gan.config import EXACT, Config, key_of
from experiments.cifar10_gan.parsing import parse_numbers

SMALL, WIDE_BITS = 4096, 8
"""Coordinates of a leaf that `--plan=size` calls small, and the bits these get."""


def create_exchange(
    config: Config, axis_name: Any, plan: qgenx.Plan | None = None
) -> qgenx.Exchange:
    """What carries the dual vectors, by a plan of bits where there is one."""
    settings: dict[str, Any] = {"key": key_of(config, "rounding")}
    quantizer = create_quantizer(config)
    if quantizer is None:
        return qgenx.exchange(axis_name, None, **settings)
    settings |= {"collective": config.collective, "rounding": config.rounding}
    if plan is not None:  # which decides of small leaves, too
        return plan.exchange(axis_name, exact=None, **settings)
    small = config.exact_leaves == "small"
    settings["exact"] = qgenx.small_leaves if small else None
    if config.plan != "size":
        return qgenx.exchange(axis_name, quantizer, **settings)
    wide = {"small": create_quantizer(config, WIDE_BITS), "large": quantizer}
    settings["labels"] = qgenx.by_size(SMALL)
    return qgenx.exchange(axis_name, wide, **settings)


def create_quantizer(config: Config, bits: int | None = None) -> qgenx.Quantizer | None:
    """The configured quantizer, or one of other bits; None for an exact exchange."""
    bits = config.bits if bits is None else bits
    if bits == EXACT:
        return None
    if config.family == "min_max":
        return qgenx.min_max(bits, bucket_size=config.bucket_size)
    buckets = _buckets(config)
    if config.family == "adaptive" and bits > 1:
        return qgenx.adaptive(bits, adapt=parse_adapt(config.adapt), **buckets)
    if config.family == "dithered":
        del buckets["norm"]
        return qgenx.dithered(bits, adapt=parse_adapt(config.adapt), **buckets)
    if config.family == "exponential":
        return qgenx.exponential(bits, **buckets) if bits > 1 else None
    return qgenx.uniform(bits, **buckets)


def _buckets(config: Config) -> dict[str, Any]:
    norm = math.inf if config.norm == "inf" else int(config.norm)
    buckets = {"bucket_size": config.bucket_size, "scale_bits": config.scale_bits}
    return {"norm": norm, **buckets}


def parse_adapt(text: str) -> int | tuple[int, ...] | None:
    """What `--adapt` says: nothing, one number, or a list of them."""
    numbers = parse_numbers("adapt", text)
    if not numbers:
        return None
    return numbers if "," in text else numbers[0]


def create_plan(
    config: Config, vectors: list[Any], payload_bytes: int, weights: Any
) -> qgenx.Plan:
    """Bits for each leaf of vectors like these, in as many bytes as without a plan.

    Args:
        config: of the run, whose family leaves are quantized by.
        vectors: dual vectors, whose variances are averaged.
        payload_bytes: the budget.
        weights: of coordinates; None for 1.
    """

    def make(bits: int, flats: list[np.ndarray]) -> qgenx.Quantizer | None:
        del flats
        return create_quantizer(config, bits)

    # levels are fitted with the plan: a solver in the step for each width would take
    # minutes to compile
    fitted = {"adaptive": "fitted", "dithered": "dithered"}
    return qgenx.plan_bits(
        *[jax.tree.map(np.asarray, vector) for vector in vectors],
        payload_bytes=payload_bytes,
        candidates=fitted.get(config.family, make),
        weights=weights,
        **_buckets(config),
    )
