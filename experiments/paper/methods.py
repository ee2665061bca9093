"""What the figure compares, and how large: fields of the GAN program by name."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Method(NamedTuple):
    """A way to train, under the name that the legend has.

    Attributes:
        title: in words.
        fields: of the GAN program, by name.
    """

    title: str
    fields: Mapping[str, Any]


def _best(bits: int) -> Mapping[str, Any]:
    """The fields of `qgenx_jax.best(bits)`."""
    return {"bits": bits, "family": "dithered", "bucket_size": 256, "scale_bits": 16}


METHODS: Mapping[str, Method] = {
    "exact": Method("exact", {"bits": 32}),
    "uniform8": Method("8 bits", {"bits": 8}),
    "uniform4": Method("4 bits", {"bits": 4}),
    "best3": Method("best, 3 bits", _best(3)),
    "best2": Method("best, 2 bits", _best(2)),
    "uniform2": Method("2 bits", {"bits": 2}),
    "qsgda": Method(
        "QSGDA, 8 bits",
        {
            "bits": 8,
            "optimizer": "sgd",
            "learning_rate_generator": 0.01,
            "learning_rate_discriminator": 0.01,
        },
    ),
    "adam": Method("Adam, 8 bits", {"bits": 8, "optimizer": "adam"}),
}
"""All but the last two are by ExtraAdam."""
DEFAULT = ("exact", "uniform8", "uniform4", "best3", "best2", "qsgda")


class Size(NamedTuple):
    """How large the figure is.

    Attributes:
        fields: of the GAN program, over those of a preset of its own.
        preset: of the GAN program.
        column: of the scores by which the table goes.
    """

    preset: str
    fields: Mapping[str, Any]
    column: str


SIZES: Mapping[str, Size] = {
    "minutes": Size(
        "cifar10_small",
        {"scores": "frechet"},
        "frechet_ema",
    ),
    "hours": Size(
        "cifar10_small",
        {
            "width": 32,
            "init_deviation": 0.04,
            "iterations": 5000,
            "log_every": 25,
            "score_every": 500,
            "scores": "frechet",
            "score_samples": 10_000,
            "checkpoint_every": 250,
        },
        "frechet_ema",
    ),
    "paper": Size(
        "paper",
        {"global_batch": 1024, "scores": "frechet", "family": "uniform"},
        "frechet_ema",
    ),
}
"""By name: minutes a run on two cores, hours, and the paper's own."""


def arguments(method: Method, size: Size, given: Sequence[str]) -> list[str]:
    """The flags of the GAN program; those that are given come last, and win."""
    fields = {**size.fields, **method.fields}
    if fields.get("bits") == 32:
        # an exact exchange reads none of these, and refuses what it does not read
        fields = {k: v for k, v in fields.items() if k not in ("family", "bucket_size")}
    flags = [f"--{name}={value}" for name, value in fields.items()]
    return [f"--preset={size.preset}", *flags, *given]
