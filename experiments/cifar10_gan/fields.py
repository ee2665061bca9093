"""Which fields of a configuration are read, and when: no flag is without effect."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.cifar10_gan.config import EXACT, Config
from experiments.cifar10_gan.methods import Q_GENX


class ReadIf(NamedTuple):
    """When a field is read.

    Attributes:
        holds: whether it is, in a configuration.
        words: the same, for a message.
    """

    holds: Callable[[Config], bool]
    words: str


def _is_of_tfds(config: Config) -> bool:
    path = Path(config.source).expanduser()
    return not (
        config.source == "embedded" or path.suffix in (".npy", ".npz") or path.exists()
    )


_RATES = ReadIf(
    lambda config: config.optimizer not in Q_GENX,
    f"by optimizers other than {', '.join(Q_GENX)}, whose steps follow --gamma0",
)
_DECAYS = ReadIf(
    lambda config: config.optimizer.endswith("adam"), "by optimizers of Adam's kind"
)
_ROUNDED = ReadIf(
    lambda config: config.bits != EXACT, f"where --bits is not {EXACT}, an exact mean"
)
_SEVERAL = ReadIf(lambda config: config.processes > 1, "where --processes is above 1")

READ_IF: Mapping[str, ReadIf] = {
    "data_dir": ReadIf(_is_of_tfds, "where --source is a set of TensorFlow Datasets"),
    "coordinator": _SEVERAL,
    "process": _SEVERAL,
    "family": _ROUNDED,
    "bucket_size": _ROUNDED,
    "exact_leaves": _ROUNDED,
    "collective": _ROUNDED,
    "norm": ReadIf(
        lambda config: config.bits != EXACT and config.family != "min_max",
        f"where --bits is not {EXACT} and --family not min_max, which has no norm",
    ),
    "learning_rate_generator": _RATES,
    "learning_rate_discriminator": _RATES,
    "b1": _DECAYS,
    "b2": _DECAYS,
    "gamma0": ReadIf(
        lambda config: config.optimizer in Q_GENX,
        f"by the optimizers {', '.join(Q_GENX)}; others have learning rates",
    ),
}
"""Of fields that not every configuration reads; all others are always read."""


def refuse_unread(config: Config, given: Mapping[str, Any], without: Config) -> None:
    """Checks that each field that somebody gave changes something.

    Args:
        config: with what was given.
        given: fields, and their values.
        without: the configuration without them.

    Raises:
        ValueError: for the first one that nothing would read.
    """
    for name, value in given.items():
        read = READ_IF.get(name)
        if read is None or read.holds(config) or value == getattr(without, name):
            continue
        raise ValueError(
            f"{name} must be left out here, got {value!r}: it is read {read.words}"
        )
