"""Presets, overrides, and what a resumed run may change."""

import dataclasses

import pytest

from experiments.cifar10_gan.config import Config
from experiments.cifar10_gan.presets import PRESETS, from_preset
from experiments.cifar10_gan.resuming import FREE, RESHARDED, resumed


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_can_be_overridden(name):
    config = from_preset(name, {"bits": 2, "workdir": "elsewhere"})
    config.validate()
    assert (config.bits, config.workdir) == (2, "elsewhere")


def test_the_quick_start_is_of_digits_in_4_bits():
    quick = from_preset("quickstart", {})
    assert quick.source == "digits"
    assert (quick.bits, quick.workers, quick.optimizer) == (4, 3, "extra_adam")


def test_the_paper_preset_is_the_reference_experiment():
    paper = from_preset("paper", {})
    assert (paper.model, paper.width, paper.latent) == ("resnet", 128, 128)
    assert (paper.workers, paper.batch_size, paper.iterations) == (3, 341, 500_000)
    assert (paper.family, paper.bits, paper.bucket_size) == ("min_max", 8, 1024)
    assert (paper.optimizer, paper.b1, paper.b2) == ("extra_adam", 0.5, 0.9)
    rates = paper.learning_rate_generator, paper.learning_rate_discriminator
    assert rates == (5e-5, 5e-4)
    assert (paper.penalty_weight, paper.ema_decay) == (10.0, 0.9999)


def test_a_resumed_run_keeps_its_fields_but_the_free_ones():
    saved = dataclasses.asdict(Config(width=8, iterations=100))
    config = resumed(saved, {"iterations": 200, "width": 8})
    assert (config.width, config.iterations) == (8, 200)
    names = {field.name for field in dataclasses.fields(Config)}
    assert names > FREE | RESHARDED
    assert resumed(saved, {"workers": 2}).workers == 2
    for name in names - FREE - RESHARDED:
        value = getattr(Config(), name)
        other = value + "x" if isinstance(value, str) else value + 1
        with pytest.raises(ValueError, match=rf"^{name} must be .* to resume, got"):
            resumed(saved, {name: other if name != "width" else 7})


def test_one_gamma0_that_was_saved_is_that_of_both_players():
    saved = dataclasses.asdict(Config(optimizer="optimistic"))
    for name in ("gamma0_generator", "gamma0_discriminator", "initial_sum"):
        del saved[name]
    config = resumed({**saved, "gamma0": 0.5}, {})
    assert (config.gamma0_generator, config.gamma0_discriminator) == (0.5, 0.5)
    assert config.initial_sum == 1.0


def test_unknown_presets_and_fields_are_refused():
    with pytest.raises(ValueError, match=r"preset must be one of .*got 'big'"):
        from_preset("big", {})
    with pytest.raises(ValueError, match=r"fields must be among .*got \['depth'\]"):
        from_preset("quickstart", {"depth": 3})
    with pytest.raises(ValueError, match=r"fields must be among .*got \['depth'\]"):
        resumed({"depth": 3}, {})
