"""Configurations from others: of a preset, and of a run that is resumed."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.cifar10_gan.config import Config

FREE = frozenset(
    {
        "workdir",
        "data_dir",
        "coordinator",
        "process",
        "processes",
        "wait_seconds",
        "timeout",
        "iterations",
        "log_every",
        "score_every",
        "scores",
        "checkpoint_every",
        "keep_checkpoints",
        "check_replicas_every",
        "record_vectors",
        "profile",
        "tensorboard",
        "wandb",
    }
)
"""Fields that may change when a run is resumed: none of them enters its numbers."""

PLACEMENT = frozenset({"coordinator", "process", "processes"})
"""Fields of the processes as they are now: a run does not keep them."""

RESHARDED = frozenset({"workers"})
"""Fields that may change, too, and with them the numbers from there on."""


def recorded(config: Config) -> dict[str, Any]:
    """The fields that a run keeps: without those of its processes.

    Another start may have other processes, on other hosts; a run that kept them would
    wait for those that it once had.
    """
    fields = dataclasses.asdict(config)
    return {name: value for name, value in fields.items() if name not in PLACEMENT}


def numbers(config: Config) -> dict[str, Any]:
    """The fields that a run's numbers depend on, as its checkpoints keep them."""
    return {
        name: value
        for name, value in dataclasses.asdict(config).items()
        if name not in FREE | RESHARDED
    }


def check_numbers(config: Config, kept: Mapping[str, Any], iteration: int) -> None:
    """Checks that config.json still says what a checkpoint was made with.

    Raises:
        ValueError: for the first field that it does not.
    """
    for name, value in numbers(config).items():
        if kept.get(name, value) != value:
            raise ValueError(
                f"{name} must be {kept[name]!r} as in checkpoint {iteration}, got "
                f"{value!r} from config.json; put that back, or start another run in "
                "another --workdir"
            )


def replaced(config: Config, values: Mapping[str, Any]) -> Config:
    """The configuration with other values.

    Raises:
        ValueError: for an unknown field.
    """
    known = {field.name for field in dataclasses.fields(Config)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"fields must be among {sorted(known)}, got {unknown}")
    return dataclasses.replace(config, **values)


def resumed(saved: Mapping[str, Any], given: Mapping[str, Any]) -> Config:
    """The configuration of a saved run, with the fields given that may change.

    Those of its processes are the ones given, or one process.

    Raises:
        ValueError: for a given field that the run depends on, of another value, or for
            a saved field that is unknown.
    """
    if "gamma0" in saved:  # one number for both players, and the paper's sum, then
        rest = {name: value for name, value in saved.items() if name != "gamma0"}
        names = ("gamma0_generator", "gamma0_discriminator")
        both = dict.fromkeys(names, saved["gamma0"])
        saved = {**rest, **both, "initial_sum": 1.0}
    kept = {name: value for name, value in saved.items() if name not in PLACEMENT}
    config = replaced(Config(), kept)
    for name, value in given.items():
        before = getattr(config, name, value)
        if name not in FREE | RESHARDED and before != value:
            raise ValueError(
                f"{name} must be {before!r} as in the run to resume, got {value!r}; "
                "leave it out, or start another run in another --workdir"
            )
    return replaced(config, given)
