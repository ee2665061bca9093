"""Orbax: every state comes back whole, and a run goes on as if nothing had happened."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, assert_trees_identical, mesh_of, vectors
from tests.lib.resumed import OPTIMIZERS, WITHOUT_OWN, q_genx, with_averages

pytestmark = pytest.mark.usefixtures("compiled_plainly")

ocp = pytest.importorskip(
    "orbax.checkpoint", reason="orbax-checkpoint is not installed: nothing to save with"
)

WORKERS, SHAPES = 3, {"kernel": (32, 40), "bias": (7,)}
KEYS = {
    "seed": lambda: 4,
    "raw": lambda: jax.random.PRNGKey(4),
    "typed": lambda: jax.random.key(4),
    "rbg": lambda: jax.random.key(4, impl="rbg"),
}


def params_of(seed=0):
    rng = np.random.default_rng(seed)
    return {k: jnp.asarray(rng.normal(size=s), "f4") for k, s in SHAPES.items()}


def gradient(params, target):
    """A worker's own gradient, coupled and not constant."""

    def loss(p):
        kernel = jnp.mean((jnp.tanh(p["kernel"]) - target) ** 2)
        return kernel + jnp.sum(p["bias"] ** 2) * jnp.mean(p["kernel"] ** 2)

    return jax.grad(loss)(params)


CASES = [(name, "seed") for name in OPTIMIZERS] + [
    ("optimistic", "raw"),
    ("optimistic", "typed"),
    ("extra_adam", "rbg"),
]


class Run:
    """A training run on all workers: an iteration of a pair, or a call of optax's."""

    def __init__(self, optimizer, mesh=None):
        self.optimizer = optimizer
        self.mesh = mesh
        where = {"workers": WORKERS} if mesh is None else {"mesh": mesh}
        is_pair = isinstance(optimizer, qgenx.ExtragradientPair)
        self.calls = 2 if is_pair and not optimizer.is_oracle_free else 1
        step = qgenx.iterate(optimizer, gradient, axis_name=AXIS) if is_pair else None
        self.run = qgenx.map_workers(step or self.call, AXIS, **where)

    def call(self, params, state, target):
        """Of an alternating optimizer: one dual vector."""
        vector = gradient(qgenx.local_params(params, AXIS), target[0])
        updates, state = self.optimizer.update(vector, state, params)
        return optax.apply_updates(params, updates), state

    def start(self, seed=0):
        """What a checkpoint holds, before the first step."""
        params = params_of(seed)
        if self.mesh is None:
            # committed, as restored arrays are: one compilation
            whole = params, qgenx.init(self.optimizer, params, workers=WORKERS)
            return jax.device_put(whole, jax.devices()[0])
        params = jax.device_put(params, NamedSharding(self.mesh, P()))
        return params, qgenx.init(self.optimizer, params, self.mesh, AXIS)

    def go(self, whole, first, last):
        """Steps first .. last - 1, each with data of its own."""
        params, state = whole
        for index in range(first, last):
            targets = vectors(WORKERS * self.calls, 32 * 40, seed=index)
            targets = targets.reshape(WORKERS, self.calls, 32, 40)
            params, state = self.run(params, state, targets)
        return params, state


def save(folder, whole):
    with ocp.CheckpointManager(folder) as manager:
        manager.save(3, args=ocp.args.StandardSave(whole))
        manager.wait_until_finished()


def restore(folder, target):
    with ocp.CheckpointManager(folder) as manager:
        return manager.restore(
            manager.latest_step(), args=ocp.args.StandardRestore(target)
        )


def assert_goes_on(run, folder):
    """Saves after 3 steps; the restored run's steps 3 .. 5 are the undisturbed one's.

    Returns:
        The tree as it was saved, and as it was restored.
    """
    saved = run.go(run.start(), 0, 3)
    save(folder, saved)
    undisturbed = run.go(saved, 3, 6)
    # as after a restart: shapes and types from a fresh start with other parameters
    restored = restore(folder, run.start(seed=1))
    assert_trees_identical(restored, saved, "restored against saved")
    continued = run.go(restored, 3, 6)
    assert_trees_identical(continued, undisturbed, "continued against undisturbed")
    moved = [float(jnp.abs(undisturbed[0][k] - saved[0][k]).max()) for k in SHAPES]
    assert min(moved) > 0, "the steps after the restoration change nothing"
    return saved, restored


def types_in(tree):
    """The types of all NamedTuples in a tree, outer ones first."""
    found = []
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        found.append(type(tree))
    if isinstance(tree, (tuple, list, dict)):
        children = tree.values() if isinstance(tree, dict) else tree
        found.extend(kind for child in children for kind in types_in(child))
    return found


@pytest.mark.parametrize(("name", "kind"), CASES, ids=[" ".join(c) for c in CASES])
def test_a_restored_run_goes_on_with_the_same_bits(name, kind, tmp_path):
    key = KEYS[kind]()
    (_, saved), (_, restored) = assert_goes_on(Run(OPTIMIZERS[name](key)), tmp_path)
    assert types_in(restored) == types_in(saved), "NamedTuples were lost"
    keys = [s.key for s in exchange_states(restored)]
    assert len(keys) == 1
    words = 4 if kind == "rbg" else 2
    assert (keys[0].dtype, keys[0].shape) == (jnp.uint32, (words,))
    own = [
        leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(restored)
        if "per_worker" in jax.tree_util.keystr(path)
    ]
    shapes = [] if name in WITHOUT_OWN else [(WORKERS, 7), (WORKERS, 32, 40)]
    assert own == shapes


def exchange_states(state):
    def is_one(node):
        return isinstance(node, qgenx.ExchangeState)

    return [n for n in jax.tree.leaves(state, is_leaf=is_one) if is_one(n)]


@pytest.mark.parametrize("as_shapes", [False, True], ids=["arrays", "shapes"])
def test_a_state_on_a_mesh_comes_back_to_its_devices(as_shapes, tmp_path):
    """The target's shardings are kept: per-worker leaves over workers."""
    run = Run(with_averages("optimistic", 4), mesh_of(WORKERS))
    saved = run.go(run.start(), 0, 1)
    save(tmp_path, saved)
    target = run.start(seed=1)
    if as_shapes:
        target = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
            target,
        )
    restored = restore(tmp_path, target)
    assert_trees_identical(restored, saved, "restored against saved")
    for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(saved), strict=True):
        assert a.sharding.is_equivalent_to(b.sharding, a.ndim), (a.sharding, b.sharding)
    specs = {
        leaf.sharding.spec for leaf in jax.tree.leaves(restored[1].inner[0].per_worker)
    }
    assert specs == {P(AXIS)}
    a, b = (run.go(whole, 1, 3) for whole in (restored, saved))
    assert_trees_identical(a, b, "continued against undisturbed")


def test_a_state_between_half_steps_comes_back(tmp_path):
    """At X_{t+1/2} the target is a state after an extrapolation, too."""
    pair = qgenx.extra_adam(1e-2)
    target = jnp.asarray(vectors(1, 32 * 40).reshape(32, 40))

    def extrapolated(params):
        vector = gradient(params, target)
        delta, state = pair.extrapolation.update(vector, pair.init(params), params)
        return optax.apply_updates(params, delta), state

    half, state = extrapolated(params_of())
    save(tmp_path, (half, state))
    there = restore(tmp_path, jax.eval_shape(extrapolated, params_of(1)))
    assert_trees_identical(there, (half, state), "restored against saved")
    assert isinstance(there[1], qgenx.BeforeUpdate)
    delta, _ = pair.update.update(gradient(half, target), state, half)
    again, _ = pair.update.update(gradient(there[0], target), there[1], there[0])
    assert_trees_identical(again, delta, "continued against undisturbed")


@pytest.mark.parametrize(
    ("saved", "wanted", "field"),
    [
        ("optimistic", "dual_averaging", r"extrapolation"),
        ("optimistic", "dual_extrapolation", r"extrapolation"),
        ("dual_extrapolation", "optimistic", r"extrapolation"),
        ("dual_extrapolation", "dual_averaging", r"per_worker"),
        ("dual_averaging", "dual_extrapolation", r"per_worker"),
        ("dual_averaging", "optimistic", r"per_worker"),
        ("alternating", "dual_extrapolation", r"half_step"),
        ("dual_extrapolation", "alternating", r"half_step"),
        ("extra_adam", "dual_averaging", r"inner"),
        ("inject_hyperparams", "alternating", r"hyperparams"),
    ],
)
def test_the_state_of_another_configuration_is_refused(saved, wanted, field, tmp_path):
    params = params_of()

    def state_of(name):
        return qgenx.init(OPTIMIZERS[name](0), params, workers=WORKERS)

    save(tmp_path, state_of(saved))
    with pytest.raises(ValueError, match=rf"(?s)structures do not match.*{field}"):
        restore(tmp_path, state_of(wanted))


def test_the_step_size_of_another_rule_is_refused(tmp_path):
    params = params_of()

    def state_of(step_size):
        pair = qgenx.q_genx(
            AXIS, qgenx.uniform(4), variant="dual_averaging", step_size=step_size
        )
        return qgenx.init(pair, params, workers=WORKERS)

    save(tmp_path, state_of(None))
    with pytest.raises(
        ValueError, match=r"(?s)do not match.*step_size\.sum_of_squares"
    ):
        restore(tmp_path, state_of(0.1))


LEVELS = qgenx.user_levels([0.2, 0.6, 1.0])


def call_with_the_state_of(saved, wanted, folder):
    """One call of `wanted` with what `saved` has left; parameters are one array.

    Where a target has an array and the file has None, Orbax gives None: the tree does
    not tell one leaf from another. A checkpoint can then only be refused by the update.
    """
    x = jnp.ones((32, 40))
    save(folder, qgenx.init(saved, x, workers=WORKERS))
    state = restore(folder, qgenx.init(wanted, x, workers=WORKERS))

    def call(x, state, vector):
        updates, state = wanted.update(vector, state, x)
        return optax.apply_updates(x, updates), state

    run = qgenx.map_workers(call, AXIS, workers=WORKERS)
    return run(x, state, jnp.ones((WORKERS, 32, 40)))


@pytest.mark.parametrize(
    ("saved", "wanted", "field"),
    [
        ("dual_averaging", "dual_extrapolation", r"state\.per_worker"),
        ("dual_averaging", "optimistic", r"state\.extrapolation"),
        ("dual_extrapolation", "optimistic", r"state\.extrapolation"),
    ],
)
def test_what_orbax_lets_through_is_refused_by_the_update(
    saved, wanted, field, tmp_path
):
    saved, wanted = (qgenx.alternating(q_genx(variant)) for variant in (saved, wanted))
    with pytest.raises(ValueError, match=field):
        call_with_the_state_of(saved, wanted, tmp_path)


def test_a_state_without_levels_is_refused_by_q_genx(tmp_path):
    saved, wanted = (
        qgenx.alternating(q_genx("dual_averaging", quantizer=quantizer))
        for quantizer in (qgenx.uniform(4), LEVELS)
    )
    with pytest.raises(ValueError, match=r"exchange\.levels"):
        call_with_the_state_of(saved, wanted, tmp_path)


def test_a_state_without_levels_is_refused_by_quantized_mean(tmp_path):
    saved, wanted = (qgenx.quantized_mean(AXIS, q) for q in (qgenx.uniform(4), LEVELS))
    with pytest.raises(ValueError, match="levels"):
        call_with_the_state_of(saved, wanted, tmp_path)


def test_a_state_of_the_other_half_step_is_refused(tmp_path):
    """Taken for X_t, X_{t+1/2} would be extrapolated once more, silently."""
    pair = qgenx.extra_sgd(0.1)
    params = params_of()
    before = pair.init(params)
    _, after = pair.extrapolation.update(params, before, params)
    save(tmp_path, after)
    with pytest.raises(ValueError, match="structures do not match"):
        restore(tmp_path, before)


def test_without_a_target_names_are_left_and_types_are_lost(tmp_path):
    """Why a target is needed: a plain dict comes back, which no update takes."""
    pair = q_genx("dual_averaging")
    params = params_of()
    save(tmp_path, qgenx.init(pair, params, workers=WORKERS))
    with ocp.CheckpointManager(tmp_path) as manager:
        plain = manager.restore(3, args=ocp.args.StandardRestore())
    assert isinstance(plain, dict)
    step = qgenx.iterate(pair, gradient, axis_name=AXIS)
    run = qgenx.map_workers(step, AXIS, workers=WORKERS)
    with pytest.raises(ValueError, match=r"state must be that of a pair whose"):
        run(params, plain, jnp.zeros((WORKERS, 1, 32, 40)))


def test_a_typed_key_in_a_state_is_kept_typed(tmp_path):
    """States of before, which had typed keys, go on as those with their words."""
    run = Run(q_genx("dual_averaging", jax.random.key(4)))
    params, state = run.go(run.start(), 0, 2)

    def with_key(state, change):
        inner = state.inner
        exchange = inner.exchange._replace(key=change(inner.exchange.key))
        return state._replace(inner=inner._replace(exchange=exchange))

    typed = with_key(state, jax.random.wrap_key_data)
    save(tmp_path, (params, typed))
    params_back, typed_back = restore(tmp_path, (params, typed))
    assert_trees_identical((params_back, typed_back), (params, typed), "restored")
    whole, (params_back, typed_back) = (
        run.go(each, 2, 4) for each in ((params, state), (params_back, typed_back))
    )
    assert jnp.issubdtype(typed_back.inner.exchange.key.dtype, jax.dtypes.prng_key)
    back = with_key(typed_back, jax.random.key_data)
    assert_trees_identical((params_back, back), whole, "continued against undisturbed")


def test_numpy_leaves_go_on_with_the_same_bits():
    """Arrays of the host, as msgpack or pickle give, are as good as JAX's."""
    run = Run(with_averages("optimistic", jax.random.PRNGKey(4)))
    whole = run.go(run.start(), 0, 2)
    on_host = jax.device_get(whole)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(on_host))
    a, b = (run.go(start, 2, 4) for start in (on_host, whole))
    assert_trees_identical(a, b, "continued from NumPy arrays")
