"""How many leaves begin with a bucket of their own.

    python -m experiments.checks.bucket_starts

Buckets run on from leaf to leaf. A leaf that begins inside a bucket shares a norm with
the end of the one before. The table says how many quantized leaves of a tree do not,
and what padding would cost if none did.
"""

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

import qgenx_jax as qgenx
from experiments.cifar10_gan.networks import models
from experiments.common import tables

BUCKET = 1024


def gpt2() -> dict[str, Any]:
    """The shapes of the smallest GPT-2: 148 leaves."""
    width = 768
    sizes = {
        "c_attn": (width, 3 * width),
        "c_proj": (width, width),
        "mlp_c_fc": (width, 4 * width),
        "mlp_c_proj": (4 * width, width),
    }
    block = {f"{name}_w": shape for name, shape in sizes.items()}
    block |= {f"{name}_b": shape[1:] for name, shape in sizes.items()}
    block |= {f"ln_{i}_{part}": (width,) for i in (1, 2) for part in ("b", "g")}
    whole: dict[str, Any] = {f"h{i:02d}": block for i in range(12)}
    whole |= {"ln_f_b": (width,), "ln_f_g": (width,)}
    whole |= {"wpe": (1024, width), "wte": (50257, width)}
    return jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, "float32"),
        whole,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def gan(name: str) -> Any:
    """The shapes of a pair of networks of the GAN program, of its default width."""

    def params() -> Any:
        pair = models.create_pair(name, width=32, latent=128, rngs=nnx.Rngs(0))
        return models.split_pair(*pair).params

    return jax.eval_shape(params)


def starts(tree: Any, exact: Any) -> Mapping[str, Any]:
    """A row of the table."""
    layout = qgenx.exchange("data", qgenx.uniform(4), exact=exact).layout(tree)
    own = quantized = padding = coordinates = 0
    for flat in layout.vectors:
        if flat.label is None:
            continue
        place = 0
        for index in flat.leaves:
            size = layout.leaves[index].size
            own += place % BUCKET == 0
            padding += -size % BUCKET
            place += size
        quantized, coordinates = quantized + len(flat.leaves), coordinates + place
    return {
        "leaves": len(layout.leaves),
        "quantized": quantized,
        "with a bucket of their own": own,
        "padding if all had, %": f"{100 * padding / coordinates:.2f}",
    }


def main() -> None:
    """Prints the table."""
    trees = {"GPT-2": gpt2(), "DCGAN": gan("dcgan"), "ResNet": gan("resnet")}
    rules = {"small_leaves": qgenx.small_leaves, "no_leaves": qgenx.no_leaves}
    tables.print_table(
        [
            {"tree": name, "exact": rule, **starts(tree, exact)}
            for name, tree in trees.items()
            for rule, exact in rules.items()
        ]
    )


if __name__ == "__main__":
    main()
