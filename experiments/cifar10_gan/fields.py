"""Which fields of a configuration are read, where others decide it.

A field that is given and not read is refused, so that nobody believes to have set what
was not.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from experiments.cifar10_gan.config import EXACT, FITTED, PLANNED, Config
from experiments.cifar10_gan.data.sources import DIGITS, EMBEDDED
from experiments.cifar10_gan.optimizers import ADAMS, Q_GENX, SGDS, WITH_MOMENTUM


class ReadIf(NamedTuple):
    """When a field is read.

    Attributes:
        holds: of a configuration.
        others: the fields that decide it.
        when: in words, after "is read only".
    """

    holds: Callable[[Config], bool]
    others: tuple[str, ...]
    when: str


def _is_tfds(config: Config) -> bool:
    is_array = config.source.endswith((".npy", ".npz"))
    is_folder = Path(config.source).expanduser().is_dir()
    return not (config.source in (DIGITS, EMBEDDED) or is_array or is_folder)


def _of_optimizers(*names: str, why: str = "") -> ReadIf:
    when = f"by the optimizers {', '.join(names)}{why}"
    return ReadIf(lambda config: config.optimizer in names, ("optimizer",), when)


_QUANTIZED = ReadIf(
    lambda config: config.bits != EXACT, ("bits",), "where vectors are quantized"
)
_SEVERAL = ReadIf(
    lambda config: config.processes > 1, ("processes",), "by several processes"
)
_RATES = _of_optimizers(
    *ADAMS, *SGDS, why=" (Q-GenX adapts its step sizes to the joint vectors)"
)
_DECAYING = ReadIf(
    lambda config: config.decay != "constant" and _RATES.holds(config),
    ("decay", "optimizer"),
    "where a learning rate decays",
)

READ_IF: Mapping[str, ReadIf] = {
    "data_dir": ReadIf(
        _is_tfds, ("source",), "for a set of TensorFlow Datasets by its name"
    ),
    "leak": ReadIf(
        lambda config: config.model == "dcgan", ("model",), "by the model dcgan"
    ),
    "batch_size": ReadIf(
        lambda config: not config.global_batch,
        ("global_batch",),
        "where no global_batch is shared",
    ),
    "coordinator": _SEVERAL,
    "process": _SEVERAL,
    "wait_seconds": _SEVERAL,
    "family": _QUANTIZED,
    "norm": ReadIf(
        lambda config: config.bits != EXACT and config.family != "min_max",
        ("bits", "family"),
        "where vectors are quantized by a family other than min_max",
    ),
    "bucket_size": _QUANTIZED,
    "scale_bits": ReadIf(
        lambda config: config.bits != EXACT and config.family != "min_max",
        ("bits", "family"),
        "where vectors are quantized by a family other than min_max",
    ),
    "rounding": _QUANTIZED,
    "adapt": ReadIf(
        lambda config: config.bits != EXACT and config.family in FITTED,
        ("bits", "family"),
        "by the families adaptive and dithered",
    ),
    "plan": _QUANTIZED,
    "plan_at": ReadIf(
        lambda config: config.bits != EXACT and config.plan in PLANNED,
        ("bits", "plan"),
        "where a plan of least variance is made",
    ),
    "exact_leaves": _QUANTIZED,
    "collective": _QUANTIZED,
    "learning_rate_generator": _RATES,
    "learning_rate_discriminator": _RATES,
    "decay": _RATES,
    "decay_iterations": _DECAYING,
    "decay_to": _DECAYING,
    "n_critic": _RATES,
    "b1": _of_optimizers(*ADAMS),
    "b2": _of_optimizers(*ADAMS),
    "amsgrad": _of_optimizers(*ADAMS),
    "momentum": _of_optimizers(*WITH_MOMENTUM),
    "nesterov": ReadIf(
        lambda config: config.momentum > 0 and config.optimizer in WITH_MOMENTUM,
        ("momentum", "optimizer"),
        f"beside a momentum, by the optimizers {', '.join(WITH_MOMENTUM)}",
    ),
    "weight_decay": _RATES,
    "gamma0_generator": _of_optimizers(*Q_GENX),
    "gamma0_discriminator": _of_optimizers(*Q_GENX),
    "initial_sum": _of_optimizers(*Q_GENX),
}
"""By field; one that is not here is always read."""


def check_read(config: Config, given: Collection[str]) -> None:
    """Checks that every field that is given is read.

    Raises:
        ValueError: for the first one that is not, with what decides it.
    """
    for name in given:
        read = READ_IF.get(name)
        if read is None or read.holds(config):
            continue
        beside = ", ".join(f"{other}={getattr(config, other)}" for other in read.others)
        raise ValueError(
            f"{name} is read only {read.when}, got {name}={getattr(config, name)!r} "
            f"beside {beside}; leave it out, or change {' or '.join(read.others)}"
        )
