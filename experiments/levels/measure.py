"""Error and bits of a vector that an exchange carries."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import qgenx_jax as qgenx
from experiments.common import codes
from qgenx_jax import bounds
from qgenx_jax._codec.quantizer import coder_of


def measure(exchange: qgenx.Exchange, vector: Mapping[str, Any]) -> dict[str, Any]:
    """What quantization by an exchange of one worker costs, after levels are fitted.

    Returns:
        "error", E||Q(v) - v||^2 / ||v||^2, exactly, over all roundings; "predicted", as
        the state has it, where one group has all; "bits", per coordinate, scales and
        all; "entropy", "huffman" and "bound", of codes alone, see `CodeBits`.
    """
    tree = jax.tree.map(jnp.asarray, dict(vector))
    _, state = jax.jit(exchange.mean)(tree, exchange.init())
    layout = exchange.layout(tree)
    error = energy = bits = 0.0
    total = codes.CodeBits()
    for flat, own in zip(layout.vectors, layout.flatten(tree), strict=True):
        energy += float(np.sum(np.square(np.asarray(own, np.float64))))
        quantizer = exchange.quantizers[flat.label] if flat.label else None
        if quantizer is None:
            bits += 8 * own.nbytes
            continue
        levels = state.levels.get(flat.label)
        known = np.asarray(own)
        variance = bounds.exact_variance(known, quantizer, levels=levels)
        error += float(np.sum(variance))
        bits += 8 * coder_of(quantizer, flat.dtype, levels).n_bytes(flat.size)
        total = total.plus(codes.code_bits(own, quantizer, levels))
    size = layout.coordinates
    predicted = state.adaptation.predicted if state.adaptation else {}
    return {
        "error": error / energy,
        "predicted": float(predicted["all"]) if "all" in predicted else None,
        "bits": bits / size,
        "entropy": total.entropy / size,
        "huffman": total.huffman / size,
        "bound": total.bound / size,
    }
