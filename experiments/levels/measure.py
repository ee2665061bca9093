"""Error and bits of a vector that an exchange carries."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import qgenx_jax as qgenx
from qgenx_jax import bounds, entropy
from qgenx_jax._codec.quantizer import coder_of


def measure(exchange: qgenx.Exchange, vector: Mapping[str, Any]) -> dict[str, Any]:
    """What quantization by an exchange of one worker costs, after levels are fitted.

    Returns:
        "error", E||Q(v) - v||^2 / ||v||^2, exactly, over all roundings; "predicted", as
        the state has it, where one group has all; "bits", per coordinate, scales and
        all; "entropy", "huffman" and "bound", of codes alone: the entropy of the
        distribution of codes, the length of a stream that is really made, and the most
        that the theorem allows for it.
    """
    tree = jax.tree.map(jnp.asarray, dict(vector))
    _, state = jax.jit(exchange.mean)(tree, exchange.init())
    layout = exchange.layout(tree)
    error = energy = bits = least = stream = most = 0.0
    for flat, own in zip(layout.vectors, layout.flatten(tree), strict=True):
        energy += float(np.sum(np.square(np.asarray(own, np.float64))))
        quantizer = exchange.quantizers[flat.label] if flat.label else None
        if quantizer is None:
            bits += 8 * own.nbytes
            continue
        levels = state.levels.get(flat.label)
        known = np.asarray(own)
        given = {"levels": levels}
        error += float(np.sum(bounds.exact_variance(known, quantizer, **given)))
        p = bounds.code_probabilities(known, quantizer, **given)
        bits += 8 * coder_of(quantizer, flat.dtype, levels).n_bytes(flat.size)
        within = bounds.code_length_bound(p, flat.size, buckets=0, signs=False)
        least, most = least + float(within.least), most + float(within.most)
        payload = quantizer.encode(0, own, levels)
        codes = [np.ravel(codes) for codes, _ in quantizer.records(payload)]
        stream += 8 * len(entropy.encode(np.concatenate(codes)))
    size = layout.coordinates
    predicted = state.adaptation.predicted if state.adaptation else {}
    return {
        "error": error / energy,
        "predicted": float(predicted["all"]) if "all" in predicted else None,
        "bits": bits / size,
        "entropy": least / size,
        "huffman": stream / size,
        "bound": most / size,
    }
