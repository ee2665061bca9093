"""A flag changes something, or is refused with the reason."""

import dataclasses
import pathlib
import re

import pytest

from experiments.cifar10_gan.config import EXACT, Config
from experiments.cifar10_gan.fields import READ_IF, refuse_unread
from experiments.cifar10_gan.presets import PRESETS, from_preset

PROGRAM = pathlib.Path(__file__).parents[3] / "experiments" / "cifar10_gan"
UNREAD = {
    "learning_rate_generator": {"optimizer": "dual_extrapolation"},
    "learning_rate_discriminator": {"optimizer": "optimistic"},
    "b1": {"optimizer": "sgd"},
    "b2": {"optimizer": "dual_averaging"},
    "gamma0": {"optimizer": "adam"},
    "family": {"bits": EXACT},
    "bucket_size": {"bits": EXACT},
    "exact_leaves": {"bits": EXACT},
    "collective": {"bits": EXACT},
    "norm": {"family": "min_max"},
    "data_dir": {"source": "embedded"},
    "coordinator": {"processes": 1},
    "process": {"processes": 1},
}
READ = {
    "learning_rate_generator": {"optimizer": "sgd"},
    "learning_rate_discriminator": {"optimizer": "extra_adam"},
    "b1": {"optimizer": "optimistic_adam"},
    "b2": {"optimizer": "adam"},
    "gamma0": {"optimizer": "dual_averaging"},
    "family": {"bits": 4},
    "bucket_size": {"bits": 2},
    "exact_leaves": {"bits": 8},
    "collective": {"bits": 4},
    "norm": {"family": "uniform"},
    "data_dir": {"source": "cifar10"},
    "coordinator": {"processes": 3},
    "process": {"processes": 3},
}


def another(name):
    value = getattr(Config(), name)
    return value + "x" if isinstance(value, str) else value / 2 or 1


def check(name, setting):
    given = {**setting, name: another(name)}
    refuse_unread(
        from_preset("quickstart", given), given, from_preset("quickstart", {})
    )


@pytest.mark.quick
@pytest.mark.parametrize("name", UNREAD)
def test_a_field_that_nothing_reads_is_refused(name):
    with pytest.raises(
        ValueError, match=rf"^{name} must be left out here, got .* is re"
    ):
        check(name, UNREAD[name])


@pytest.mark.quick
@pytest.mark.parametrize("name", READ)
def test_where_it_is_read_it_may_be_given(name):
    check(name, READ[name])


@pytest.mark.quick
def test_every_condition_is_tried_and_every_field_is_read_somewhere():
    assert READ_IF.keys() == UNREAD.keys() == READ.keys()
    text = "".join(
        path.read_text()
        for path in PROGRAM.rglob("*.py")
        if path.name not in ("config.py", "fields.py", "presets.py")
    )
    for field in dataclasses.fields(Config):
        assert re.search(rf"\bconfig\.{field.name}\b", text), f"{field.name}: by nobody"


@pytest.mark.quick
@pytest.mark.parametrize("preset", PRESETS)
def test_what_a_preset_has_already_is_no_mistake(preset):
    config = from_preset(preset, {})
    refuse_unread(config, dataclasses.asdict(config), config)
