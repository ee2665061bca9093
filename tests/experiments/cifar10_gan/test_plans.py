"""Adaptive levels, plans of bits and recorded vectors in the GAN program."""

import csv
import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

import qgenx_jax as qgenx
from experiments.cifar10_gan import quantizers, train
from experiments.cifar10_gan.checkpoints import Checkpoints
from experiments.cifar10_gan.config import Config
from experiments.cifar10_gan.parsing import parse_numbers
from experiments.cifar10_gan.run import Run
from experiments.common.tables import read_csv
from experiments.faults.runs import rows
from experiments.levels import measure
from tests.lib.helpers import assert_trees_identical
from tests.lib.tiny_runs import TINY, preparing_once

SHAPES = {
    "kernel": jax.ShapeDtypeStruct((128, 128), "float32"),
    "first": jax.ShapeDtypeStruct((3, 1024), "float32"),
    "bias": jax.ShapeDtypeStruct((128,), "float32"),
}


@pytest.fixture(scope="module", autouse=True)
def _prepare_once(tmp_path_factory):
    with preparing_once(tmp_path_factory.mktemp("cache")):
        yield


def of(tmp_path, **changes):
    changes = {"devices": "vmap", "workers": 2, "log_every": 1, **changes}
    changes = {"score_every": 4, **changes}
    return dataclasses.replace(TINY, workdir=str(tmp_path), **changes)


@pytest.mark.quick
def test_by_size_small_leaves_get_eight_bits_and_smaller_ones_stay_exact():
    config = dataclasses.replace(Config(), bits=2, plan="size")
    exchange = quantizers.create_exchange(config, "workers")
    layout = exchange.layout(SHAPES)
    assert dict(zip(layout.paths, layout.labels, strict=True)) == {
        "['kernel']": "large",
        "['first']": "small",
        "['bias']": None,
    }
    assert {k: q.bits for k, q in exchange.quantizers.items()} == {
        "large": 2,
        "small": 8,
    }


@pytest.mark.quick
@pytest.mark.parametrize(
    ("text", "expected"),
    [("", None), ("500", 500), ("0,200", (0, 200)), ("7,", (7,)), (" 1 , 2", (1, 2))],
)
def test_milestones_as_they_are_written(text, expected):
    assert quantizers.parse_adapt(text) == expected


@pytest.mark.quick
def test_what_is_no_number_is_refused():
    with pytest.raises(ValueError, match="plan_at must be whole numbers with commas"):
        parse_numbers("plan_at", "1,x")


@pytest.mark.quick
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plan": "variance", "n_critic": 2}, "n_critic must be 1 with plan=variance"),
        ({"plan": "adam", "optimizer": "sgd"}, "plan must not be adam for sgd"),
        (
            {"plan": "adam", "amsgrad": True},
            "plan must not be adam for extra_adam, ams",
        ),
        (
            {"plan": "variance", "collective": "auto"},
            "collective must be 'all_gather' with plan=variance",
        ),
        ({"family": "adaptive", "bits": 1}, "bits of the family adaptive must be at"),
        ({"plan_at": "1;2", "plan": "variance"}, "plan_at must be whole numbers"),
        ({"record_vectors": "one"}, "record_vectors must be whole numbers"),
        ({"family": "adaptive", "adapt": "often"}, "adapt must be whole numbers"),
    ],
)
def test_what_does_not_go_together_is_refused_beforehand(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(Config(), **changes).validate()


@pytest.mark.quick
def test_a_plan_costs_no_more_bytes_than_without_and_errs_less():
    rng = np.random.default_rng(0)
    scales = {"kernel": 1.0, "first": 30.0, "bias": 3.0}
    vectors = [
        {
            name: (scales[name] * rng.standard_t(3, size=shape.shape)).astype("float32")
            for name, shape in SHAPES.items()
        }
        for _ in range(2)
    ]
    config = dataclasses.replace(Config(), bits=3, plan="variance")
    bare = quantizers.create_exchange(config, "workers")
    budget = bare.traffic(SHAPES, 3).payload_bytes
    plan = quantizers.create_plan(config, vectors, budget, None)
    planned = quantizers.create_exchange(config, "workers", plan)
    assert planned.traffic(SHAPES, 3).payload_bytes == plan.payload_bytes <= budget
    flat = np.concatenate([vectors[0]["first"].ravel(), vectors[0]["kernel"].ravel()])
    alike = qgenx.bounds.exact_variance(flat, qgenx.uniform(3)).sum()
    assert plan.predicted < 0.5 * alike


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A run with a plan after iteration 2, and vectors recorded."""
    folder = tmp_path_factory.mktemp("planned")
    config = of(
        folder, bits=3, plan="adam", plan_at="2", record_vectors="0,3", iterations=4
    )
    train.train(config)
    return folder


def test_a_planned_run_goes_on_to_the_bit_where_it_is_resumed(planned, tmp_path):
    """Also where it stops just before it plans, and after it has."""
    how = {"plan": "adam", "plan_at": "2", "record_vectors": "0,3"}
    config = of(tmp_path, bits=3, checkpoint_every=1, **how)
    codes = "vectors/codes.csv"
    for iterations in (2, 3, 4):
        if iterations == 4:  # killed before the checkpoint, it would have left all rows
            shutil.copy(planned / codes, tmp_path / codes)
        stage = dataclasses.replace(config, iterations=iterations)
        train.train(stage, resume=iterations > 2)
    assert (tmp_path / codes).read_text() == (planned / codes).read_text()
    kept = ("loss_discriminator", "quantization_error", "bytes", "bytes_per_iteration")
    whole, parts = rows(planned), rows(tmp_path)
    for column in kept:
        assert [row[column] for row in whole] == [row[column] for row in parts], column
    plans = [next((x / "plans").glob("*.json")) for x in (planned, tmp_path)]
    assert plans[0].read_text() == plans[1].read_text()
    before, after = (int(whole[i]["bytes_per_iteration"]) for i in (2, 3))
    assert after <= before


def test_recorded_vectors_are_those_of_the_networks(planned):
    paths = sorted((planned / "vectors").glob("*.npz"))
    assert [path.stem for path in paths] == ["000000", "000003"]
    config = Config(**json.loads((planned / "config.json").read_text()))
    run = Run(config)
    with np.load(paths[0]) as file:
        found = {name: file[name] for name in file.files}
    assert len(found) == len(jax.tree.leaves(run.training.params))
    assert sum(x.size for x in found.values()) == sum(
        x.size for x in jax.tree.leaves(run.training.params)
    )
    assert all(np.isfinite(x).all() for x in found.values())
    assert max(np.abs(x).max() for x in found.values()) > 0


def test_codes_are_counted_by_the_quantizers_in_use(planned):
    """As `experiments.levels` counts them, before the plan and after it."""
    table = read_csv(planned / "vectors" / "codes.csv")
    (plan_file,) = (planned / "plans").glob("*.json")
    plan = qgenx.Plan.from_json(plan_file.read_text())
    config = Config(**json.loads((planned / "config.json").read_text()))
    for stem in ("000000", "000003"):
        with np.load(planned / "vectors" / f"{stem}.npz") as file:
            leaves = nested(file)
        mine = [row for row in table if int(row["iteration"]) == int(stem)]
        bare = quantizers.create_exchange(config, None)
        exchange = bare if stem == "000000" else plan.exchange(None)
        expected = measure.measure(exchange, leaves)
        known = exchange.quantizers
        assert {row["group"] for row in mine} == {k for k in known if known[k]}
        assert len(mine) == len({row["group"] for row in mine})
        for name in ("entropy", "huffman", "bound"):
            bits = sum(float(row[name]) * int(row["coordinates"]) for row in mine)
            size = sum(x.size for x in jax.tree.leaves(leaves))
            assert bits / size == pytest.approx(expected[name], rel=1e-6), name
        for row in mine:
            of = known[row["group"]]
            assert (row["quantizer"], float(row["fixed"])) == (of.family, of.bits)


def nested(file):
    """Leaves by the paths that their names are, as a tree of dicts."""
    tree = {}
    for name, x in file.items():
        *path, last = name.split("/")
        node = tree
        for key in path:
            node = node.setdefault(key, {})
        node[last] = x
    return tree


def test_adaptive_levels_are_logged_and_survive_a_resume(tmp_path):
    """Fitted before exchanges 0 and 6, two an iteration: in iterations 1 and 4."""
    folders = tmp_path / "whole", tmp_path / "parts"
    how = {"family": "adaptive", "adapt": "0,6", "bits": 3, "exact_leaves": "none"}
    config = of(folders[0], **how)
    train.train(config)
    parts = dataclasses.replace(config, workdir=str(folders[1]), checkpoint_every=1)
    for iterations in (2, 4):
        stage = dataclasses.replace(parts, iterations=iterations)
        train.train(stage, resume=iterations > 2)
    tables = []
    for folder in folders:
        with (folder / "levels.csv").open() as file:
            tables.append(list(csv.DictReader(file)))
    assert [row["iteration"] for row in tables[0]] == ["1", "4"]
    levels = [float(x) for x in tables[0][0]["levels"].split()]
    assert (np.diff([0, *levels]) > 0).all()
    assert levels[-1] == 1
    known = [{row["iteration"]: row for row in table} for table in tables]
    assert known[0] == known[1]
    metrics = [rows(folder) for folder in folders]
    for row in metrics[0][2:]:
        ratio = float(row["quantization_error"]) / float(row["predicted_error"])
        assert 0.5 < ratio < 2
    assert (folders[0] / "levels.png").exists()
    states = []
    for folder, stage in zip(folders, (config, parts), strict=True):
        run = Run(stage)
        with Checkpoints(folder / "checkpoints", keep=2) as checkpoints:
            run.restore(checkpoints, 4)
        states.append(run.training)
    assert_trees_identical(states[0], states[1], "resumed")
