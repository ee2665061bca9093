"""Plans of bits: the best of all, what they predict, what they gain, and refusals."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax._exchange.recorded import recorded
from tests.lib.helpers import within_5_sigma

GAN = [524288, 4096, 524288, 256, 131072, 128, 3072, 64, 3072, 64, 131072, 128]
GAN += [524288, 256, 4096]
"""Sizes of the leaves of a DCGAN of width 64, generator and discriminator."""


def vector(sizes, seed=0, spread=1.0, freedom=3):
    """Leaves of log-normal scales with Student's coordinates: heavy tails."""
    rng = np.random.default_rng(seed)
    return {
        f"{i:02d}": np.exp(rng.normal(0, spread)).astype("f4")
        * rng.standard_t(freedom, size).astype("f4")
        for i, size in enumerate(sizes)
    }


def heterogeneous(seed=0):
    """Scales 1 : 100, sizes 10 to 10^5."""
    rng = np.random.default_rng(seed)
    sizes = np.append(np.geomspace(10, 1e4, 12).astype(int), 100_000)
    rng.shuffle(sizes)
    scales = np.geomspace(1, 100, len(sizes))
    rng.shuffle(scales)
    leaves = zip(scales, vector(sizes, seed, spread=0).values(), strict=True)
    return {f"{i:02d}": (s * x).astype("f4") for i, (s, x) in enumerate(leaves)}


def uniform_of(tree, bits):
    """(variance, bytes) of one quantizer for all."""
    quantizer, flat = qgenx.uniform(bits), np.concatenate([*tree.values()])
    variance = recorded([{"all": flat}], None).variance([0], quantizer)
    exchange = qgenx.exchange("data", quantizer)
    return variance, exchange.traffic(tree, workers=2).payload_bytes


def counted(plan, tree, workers=3):
    return plan.exchange("data").traffic(tree, workers=workers).payload_bytes


@pytest.mark.plainly
@pytest.mark.parametrize(("bits", "weighted"), [(4, False), (3, True)])
def test_the_predicted_variance_is_the_measured_one(bits, weighted):
    tree = heterogeneous(bits)
    scales = {k: float(np.std(x)) for k, x in tree.items()}
    weights = {k: 1 / s for k, s in scales.items()} if weighted else None
    plan = qgenx.plan_bits(tree, bits_per_coordinate=bits + 0.05, weights=weights)
    one = plan.exchange(None)

    @jax.jit
    def error(key):
        decoded = one.quantize(tree, one.init()._replace(key=key))
        return sum(
            jnp.sum(jnp.square((decoded[k] - x) * (weights[k] if weighted else 1)))
            for k, x in tree.items()
        )

    keys = jax.random.split(jax.random.key(1), 40)
    found = np.asarray([error(jax.random.key_data(key)) for key in keys], np.float64)
    standard_error = found.std(ddof=1) / np.sqrt(len(found))
    within_5_sigma(found.mean(), plan.predicted, standard_error, "the variance")
    assert found.mean() == pytest.approx(plan.predicted, rel=0.03)
    assert counted(plan, tree) == plan.payload_bytes
    assert plan.bits_per_coordinate <= bits + 0.05
    # buckets of a leaf's own, which the bound assumes, are not cut alike
    assert 0.97 * plan.lower_bound < plan.predicted < 1.1 * plan.lower_bound


@pytest.mark.quick
def test_groups_of_ones_own_are_the_best_of_all_choices():
    """Then bytes and variances add up, and the optimum is that of enumeration."""
    tree = vector([64, 300, 1500, 2500], seed=3, spread=2)
    candidates = [qgenx.uniform(b) for b in (1, 2, 4, 7)] + [None]
    names = {k: f"group {k}" for k in tree}
    budget = 1800
    plan = qgenx.plan_bits(
        tree, payload_bytes=budget, candidates=candidates, labels=names
    )
    of = recorded([tree], None)
    variances = [[of.variance([i], q) for q in candidates] for i in range(4)]
    n_bytes = [
        [4 * x.size if q is None else q.n_bytes(x.size) for q in candidates]
        for x in tree.values()
    ]
    best = min(
        sum(variances[i][c] for i, c in enumerate(choice))
        for choice in itertools.product(range(5), repeat=4)
        if sum(n_bytes[i][c] for i, c in enumerate(choice)) <= budget
    )
    assert plan.predicted <= best * (1 + 1e-4)
    assert best * (1 - 2e-4) <= plan.lower_bound <= best * (1 + 1e-9)
    assert set(plan.quantizers) == set(names.values())
    assert counted(plan, tree) == plan.payload_bytes <= budget


@pytest.mark.quick
@pytest.mark.parametrize("seed", range(3))
def test_leaves_are_near_the_best_of_all_choices(seed):
    """Of 4 leaves in groups: one of 2,401 ways, within budgets down to the byte."""
    tree = vector([1024, 500, 3000, 77], seed, spread=2)
    candidates = [qgenx.uniform(b) for b in range(1, 8)]
    for budget in (900, 1500, 3000):
        plan = qgenx.plan_bits(tree, payload_bytes=budget, candidates=candidates)
        assert counted(plan, tree) == plan.payload_bytes <= budget
        # a short bucket of each group is not foreseen to the byte
        best = best_of_all(tree, candidates, budget - 8 * len(plan.quantizers))
        assert plan.predicted <= 1.05 * best


def best_of_all(tree, candidates, budget):
    """The least variance of leaves in groups by their quantizers, by enumeration."""
    of, best = recorded([tree], None), np.inf
    alone = [[of.variance([i], q) for q in candidates] for i in range(len(tree))]
    for choice in itertools.product(range(len(candidates)), repeat=len(tree)):
        if sum(alone[i][c] for i, c in enumerate(choice)) > 1.2 * best:
            continue
        members = {c: [i for i, x in enumerate(choice) if x == c] for c in choice}
        n_bytes = sum(
            candidates[c].n_bytes(sum(of.sizes[i] for i in of_c))
            for c, of_c in members.items()
        )
        if n_bytes <= budget:
            found = sum(of.variance(x, candidates[c]) for c, x in members.items())
            best = min(best, found)
    return best


def test_it_gains_what_it_says_on_a_vector_like_a_dcgans():
    """Printed by `pytest -s`: error of one quantizer over that of a plan."""
    tree = vector(GAN, seed=1, spread=1.5)
    print("\nbits  bytes  plan  by_size  its bytes  plan with them")
    for bits, least in ((2, 1.5), (3, 2), (4, 2.5)):
        variance, n_bytes = uniform_of(tree, bits)
        plan = qgenx.plan_bits(tree, payload_bytes=n_bytes)
        assert counted(plan, tree) == plan.payload_bytes <= n_bytes
        quantizers = {"small": qgenx.uniform(8), "large": qgenx.uniform(bits)}
        labels = qgenx.by_size(4096)
        simple = qgenx.exchange("data", quantizers, labels=labels)
        larger = simple.traffic(tree, workers=2).payload_bytes
        of, by_size = recorded([tree], None), jax.tree.leaves(labels(tree))
        error = sum(
            of.variance([i for i, x in enumerate(by_size) if x == label], quantizer)
            for label, quantizer in quantizers.items()
        )
        same = qgenx.plan_bits(tree, payload_bytes=larger)
        gain, of_simple = variance / plan.predicted, variance / error
        also = variance / same.predicted
        print(f"{bits} {n_bytes:,} {gain:.2f} {of_simple:.2f} {larger:,} {also:.2f}")
        assert gain > least
        assert also >= of_simple > 1


@pytest.mark.plainly
def test_fitted_levels_are_better_and_fit_their_group():
    tree = vector([2000, 9000, 300, 5000], seed=1, spread=2)
    plain = qgenx.plan_bits(tree, bits_per_coordinate=3.1)
    fitted = qgenx.plan_bits(tree, bits_per_coordinate=3.1, candidates="fitted")
    assert fitted.predicted < 0.6 * plain.predicted
    assert counted(fitted, tree) == fitted.payload_bytes <= 3.1 * 16300 / 8
    tables = {len(q.levels) for q in fitted.quantizers.values() if q is not None}
    assert len(tables) > 1


@pytest.mark.quick
def test_a_function_makes_candidates_of_the_vectors_of_a_group():
    tree = vector([1000, 3000], seed=2)
    given = []

    def make(bits, vectors):
        given.append((bits, *(x.size for x in vectors)))
        return qgenx.uniform(bits, bucket_size=256) if bits > 2 else None

    settings = {"candidates": make, "bits_per_coordinate": 5.0}
    plan = qgenx.plan_bits(tree, tree, labels={"00": "a", "01": "b"}, **settings)
    assert given == [(b, n, n) for n in (1000, 3000) for b in range(1, 9)]
    assert all(q.bucket_size == 256 for q in plan.quantizers.values())
    given.clear()
    qgenx.plan_bits(tree, **settings)
    assert given[:8] == [(b, 4000) for b in range(1, 9)]
    assert set(given[8:]) <= {(b, n) for b in range(3, 9) for n in (1000, 3000, 4000)}


@pytest.mark.quick
def test_the_plan_is_for_the_mean_of_the_vectors():
    one, other = (vector([4096, 4096], seed, spread=0) for seed in (4, 5))
    several = [{**one, "00": 50 * one["00"]}, {**other, "01": 20 * other["01"]}]
    plan = qgenx.plan_bits(*several, bits_per_coordinate=4.1)
    of = recorded(several, None)
    by_hand = sum(
        of.variance([i for i, p in enumerate(of.paths) if plan.leaves[p] == x], q)
        for x, q in plan.quantizers.items()
    )
    assert plan.predicted == pytest.approx(by_hand)
    assert plan.leaves["['00']"] >= plan.leaves["['01']"]  # more bits
    assert plan.relative == pytest.approx(by_hand / of.energy([0, 1]))


@pytest.mark.quick
def test_leaves_of_zeros_are_planned_for_as_the_mean_of_the_others():
    tree = vector([5120, 5120], seed=6, spread=0, freedom=99) | {
        "02": np.zeros(5120, "f4")
    }
    plan = qgenx.plan_bits(tree, bits_per_coordinate=4.1)
    assert set(plan.leaves.values()) == {"uniform_4"}
    assert plan.lower_bound <= plan.predicted


@pytest.mark.quick
def test_a_budget_for_all_is_exact_and_rounds_nothing():
    tree = vector([100, 50])
    for settings in ({"payload_bytes": 10_000}, {"bits_per_coordinate": 32}):
        plan = qgenx.plan_bits(tree, **settings)
        assert plan.quantizers == {"exact": None}
        assert (plan.predicted, plan.lower_bound, plan.payload_bytes) == (0, 0, 600)
        assert counted(plan, tree) == 600


@pytest.mark.quick
def test_the_smallest_budget_is_said_and_is_enough():
    tree = vector([1000, 50])
    with pytest.raises(ValueError, match=r"payload_bytes must be at least 140, .* 139"):
        qgenx.plan_bits(tree, payload_bytes=139)
    assert qgenx.plan_bits(tree, payload_bytes=140).payload_bytes == 140
    message = r"bits_per_coordinate must be at least 1.0667, .* got 1.0: give more"
    with pytest.raises(ValueError, match=message):
        qgenx.plan_bits(tree, bits_per_coordinate=1.0)
    assert qgenx.plan_bits(tree, bits_per_coordinate=1.0667).payload_bytes == 140


TREE = {"a": np.ones(8, "f4"), "b": np.ones(3, "f4")}
REFUSED = {
    "no budget": ({}, r"payload_bytes or bits_per_coordinate must be given"),
    "two": ({"payload_bytes": 1, "bits_per_coordinate": 1}, r"and not both, got 1"),
    "part of a byte": ({"payload_bytes": 1.5}, r"payload_bytes must be a whole number"),
    "negative": (
        {"bits_per_coordinate": -1},
        r"bits_per_coordinate must be a positive",
    ),
    "no name": (
        {"candidates": "best"},
        r"candidates must be one of 'uniform', ",
    ),
    "none": (
        {"candidates": []},
        r"candidates must be a name, a function or ",
    ),
    "no quantizer": ({"candidates": [4]}, r"candidates must be quantizers.* got 4"),
    "made of none": ({"candidates": lambda b, x: b}, r"candidates must be quantizers"),
    "labels": ({"labels": {"c": "x"}}, r"labels must be a prefix of the tree"),
    "no strings": ({"labels": 3}, r"labels must be of type str"),
    "groups": ({"most_groups": 0}, r"most_groups must be a whole number of at least 1"),
    "bucket": ({"bucket_size": 0}, r"bucket_size must be a whole number"),
}


@pytest.mark.quick
@pytest.mark.parametrize(("settings", "message"), REFUSED.values(), ids=REFUSED)
def test_mistakes_are_refused(settings, message):
    is_free = settings.keys() & {"payload_bytes", "bits_per_coordinate"}
    budget = {} if is_free or not settings else {"payload_bytes": 99}
    with pytest.raises(ValueError, match=message):
        qgenx.plan_bits(TREE, **budget, **settings)
