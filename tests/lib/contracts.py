"""Contracts that optax expects a transformation to keep, each as a function.

A contract takes a subject and raises AssertionError where the subject breaks it. A call
of a subject runs on all workers, under vmap unless said otherwise.
"""

import contextlib
import functools
import pickle
import re
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, assert_trees_identical, mesh_of, promised

WORKERS = 2


class Subject(NamedTuple):
    """A row: `make(rate)` makes the transformation; rate is None if it needs none."""

    make: Callable[[Any], optax.GradientTransformation]
    rate: float | None

    @property
    def transformation(self) -> optax.GradientTransformation:
        return _made(self)


@functools.lru_cache
def _made(subject):
    return subject.make(subject.rate)


class Layer(NamedTuple):
    kernel: Any
    bias: Any


def matrix():
    """Parameters of one leaf in two buckets, new buffers at every call."""
    return {"w": jnp.linspace(-1.0, 2.0, 20).reshape(4, 5)}


def mixed():
    """Dict, list, tuple and NamedTuple; three dtypes, a scalar, None, nothing."""
    return {
        "layers": [
            Layer(jnp.ones((3, 4)), jnp.ones(4, jnp.bfloat16)),
            Layer(jnp.ones((2, 3), jnp.float16), None),
        ],
        "pair": (jnp.float32(1.5), {}),
    }


def vectors(params, call=0):
    """A dual vector for every worker; a leaf's own, whatever other leaves there are."""

    def draw(path, x):
        seed = zlib.crc32(jax.tree_util.keystr(path).encode()), call
        rng = np.random.default_rng(seed)
        return jnp.asarray(rng.normal(size=(WORKERS, *x.shape)) + 0.5, x.dtype)

    return jax.tree_util.tree_map_with_path(draw, params)


def copied(tree):
    return jax.tree.map(lambda x: jnp.array(x, copy=True), tree)


def initial(transformation, params):
    """The state that init makes outside of jit, its per-worker leaves over workers."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: (
            jnp.repeat(x, WORKERS, axis=0)
            if "per_worker" in jax.tree_util.keystr(path)
            else x
        ),
        transformation.init(params),
    )


class Run:
    """One call of a transformation on all workers, donating; counts its traces."""

    def __init__(self, transformation, **where):
        self.traces = 0

        def step(params, state, vector):
            self.traces += 1
            updates, state = transformation.update(vector, state, params)
            return optax.apply_updates(params, updates), state

        self.call = qgenx.map_workers(step, AXIS, donate=True, **where)

    def __call__(self, params, state, calls=1, start=0):
        params, state = copied(params), copied(state)
        for call in range(start, start + calls):
            params, state = self.call(params, state, vectors(params, call))
        return params, state


@functools.lru_cache
def by_vmap(transformation):
    """Compiled once for all contracts."""
    return Run(transformation, workers=WORKERS)


def kinds(tree):
    """What a tree is made of: structure, shapes and dtypes."""
    kind = [(jnp.shape(x), jnp.result_type(x)) for x in jax.tree.leaves(tree)]
    return jax.tree.structure(tree), kind


def program(transformation, params, **extra):
    """The text of one call's program, traced anew; the arguments must stay as they are.

    Equal texts are equal computations, to the last bit.
    """

    def worker(params, state, vector):
        arguments = vector, state, params
        leaves, structure = jax.tree.flatten(arguments)
        result = transformation.update(*arguments, **extra)
        after, structure_after = jax.tree.flatten(arguments)
        assert structure == structure_after, "update changed its arguments' structure"
        same = all(a is b for a, b in zip(leaves, after, strict=True))
        assert same, "update replaced leaves of its arguments"
        return result

    state = jax.eval_shape(transformation.init, params)
    mapped = jax.vmap(
        worker, in_axes=(None, None, 0), axis_name=AXIS, axis_size=WORKERS
    )
    text = jax.jit(mapped).lower(params, state, vectors(params)).as_text()
    return re.sub(r'jax.result_info = "[^"]*"', "", text)  # the results' names


@functools.lru_cache
def plain_program(transformation):
    """Traced once for all contracts."""
    return program(transformation, matrix())


def check_extra_args(subject):
    params = matrix()
    unknown = {"value": jnp.float32(3.0), "value_fn": jnp.sum, "surprise": ["text"]}
    plain = plain_program(subject.transformation)
    with promised("unknown extra arguments must be ignored"):
        given = program(subject.transformation, params, **unknown)
    assert plain == given, "unknown extra arguments changed what is computed"


def check_abstract_init(subject):
    init = subject.transformation.init
    for params in (matrix(), mixed()):
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
        with promised("init must take shapes and dtypes for parameters"):
            abstract = jax.eval_shape(init, shapes)
        assert kinds(abstract) == kinds(init(params)), "abstract and real state differ"


def check_pure(subject):
    transformation, params = subject.transformation, matrix()
    first = plain_program(transformation)
    second = program(transformation, params)
    assert first == second, "a second trace of update computes something else"
    state = initial(transformation, params)
    again = initial(transformation, params)
    assert_trees_identical(state, again, "init twice from equal parameters")
    assert_trees_identical(params, matrix(), "parameters after init")
    run = by_vmap(transformation)
    results = [run(params, state) for _ in range(2)]
    assert_trees_identical(*results, "update twice from equal inputs")
    chex.assert_tree_all_finite(results[0][0])
    assert (results[0][0]["w"] != params["w"]).any(), "update did nothing"


def check_no_recompile(subject):
    run, params = by_vmap(subject.transformation), matrix()
    again = "the state that came back was compiled for again"
    with promised(again):  # map_workers refuses states that would be
        params, state = run(params, initial(subject.transformation, params))
        before = run.traces
        run(params, state, calls=2)
    assert run.traces == before, again


def check_dtype(dtype, subject):
    transformation = subject.transformation
    with jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext():
        params = {"w": jnp.ones((4, 5), dtype), "b": jnp.ones((), dtype)}

        def worker(vector):
            state = transformation.init(params)
            updates, after = transformation.update(vector, state, params)
            assert kinds(updates) == kinds(params), f"updates for {dtype} parameters"
            assert kinds(after) == kinds(state), f"state for {dtype} parameters"
            return updates

        mapped = jax.vmap(worker, axis_name=AXIS, axis_size=WORKERS)
        with promised(f"parameters of {dtype} must be taken"):
            updates = jax.eval_shape(mapped, vectors(params))
        found = {str(x.dtype) for x in jax.tree.leaves(updates)}
        assert found == {dtype}, f"updates for {dtype} are {found}"


def check_control_flow(subject):
    """Types are compared when cond and scan are traced: nothing needs to run."""
    transformation = subject.transformation

    def go(carry, vector):
        params, state = carry
        updates, state = transformation.update(vector, state, params)
        return optax.apply_updates(params, updates), state

    def call(carry, inputs):
        skip, vector = inputs
        return lax.cond(skip, lambda carry, _: carry, go, carry, vector), None

    for params in (matrix(), mixed()):

        def worker(several, params=params):
            carry = params, transformation.init(params)
            return lax.scan(call, carry, (jnp.array([False, True, False]), several))[0]

        several = jax.tree.map(lambda v: jnp.stack([v] * 3, 1), vectors(params))
        with promised("the state must keep structure and dtypes in cond and scan"):
            after = jax.eval_shape(
                jax.vmap(worker, axis_name=AXIS, axis_size=WORKERS), several
            )
        before = jax.eval_shape(transformation.init, params)
        assert jax.tree.structure(after[1]) == jax.tree.structure(before)


def check_donation(subject):
    run, params = by_vmap(subject.transformation), matrix()
    expected = run(params, initial(subject.transformation, params))
    state = initial(subject.transformation, params)
    buffers = [
        x.unsafe_buffer_pointer()
        for x in jax.tree.leaves((params, state))
        if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    ]
    assert len(set(buffers)) == len(buffers), "init must copy: it shares a buffer"
    with promised("parameters and their first state must be donatable together"):
        results = run.call(params, state, vectors(params))
    assert params["w"].is_deleted(), "nothing was donated"
    assert_trees_identical(results, expected, "results of a donating call")


def check_trees(subject):
    transformation, run = subject.transformation, by_vmap(subject.transformation)
    holes = {"a": jnp.ones(3), "b": None, "c": [None, {}]}
    sizes = jnp.float32(1.5), [jnp.ones((0, 3)), jnp.ones(2)]
    for params in (holes, (), {"a": None}, *sizes):

        def worker(vector, params=params):
            updates, after = transformation.update(
                vector, transformation.init(params), params
            )
            assert kinds(updates) == kinds(params), f"updates for {params}"
            return updates, after

        with promised(f"{params} must be taken as parameters"):
            jax.eval_shape(
                jax.vmap(worker, axis_name=AXIS, axis_size=WORKERS), vectors(params)
            )
    for params in ({}, mixed()):
        with promised(f"{params} must be taken as parameters"):
            state = initial(transformation, params)
            moved, after = run(params, state, calls=2)
        assert kinds(moved) == kinds(params), f"parameters became {moved}"
        assert kinds(after) == kinds(state), f"the state of {params} changed its kind"
        chex.assert_tree_all_finite(moved)
        for x, y in zip(jax.tree.leaves(params), jax.tree.leaves(moved), strict=True):
            assert (x != y).any(), f"a leaf of {params} did not move"


def assert_close(actual, expected, message, tolerance=1e-5):
    chex.assert_trees_all_equal_structs(actual, expected)
    pairs = zip(
        jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True
    )
    for (path, a), b in pairs:
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        where = f"{message}, at {jax.tree_util.keystr(path)}"
        np.testing.assert_allclose(
            np.asarray(a), np.asarray(b), tolerance, tolerance, err_msg=where
        )


def check_vmap_and_shard_map(subject):
    transformation, params = subject.transformation, matrix()
    state, mesh = initial(transformation, params), mesh_of(WORKERS)
    placed = qgenx.lay_out((params, transformation.init(params)), mesh, AXIS)
    with promised("a transformation must run in shard_map"):
        sharded = Run(transformation, mesh=mesh)(*placed, calls=3)  # one compilation
    mapped = by_vmap(transformation)(params, state, calls=3)
    assert_close(sharded, mapped, "shard_map and vmap differ")


def check_pickling(subject):
    run, params = by_vmap(subject.transformation), matrix()
    params, state = run(params, initial(subject.transformation, params))
    with promised("the state must survive pickle"):
        restored = pickle.loads(pickle.dumps(state))
    assert_trees_identical(restored, state, "restored state")
    resumed, expected = (run(params, s, calls=2, start=1) for s in (restored, state))
    assert_trees_identical(resumed, expected, "run resumed from a pickle")


def check_inject_hyperparams(subject):
    with promised("inject_hyperparams must take what makes the transformation"):
        injected = optax.inject_hyperparams(subject.make)(rate=subject.rate)
        run, params = by_vmap(injected), matrix()
        state = initial(injected, params)
        moved, after = run(params, state, calls=2)
    plain = initial(subject.transformation, params)
    expected = by_vmap(subject.transformation)(params, plain, calls=2)
    assert_close((moved, after.inner_state), expected, "injected and plain differ")
    once, _ = run(params, state)
    state.hyperparams["rate"] = 2 * state.hyperparams["rate"]
    twice, _ = run(params, state)
    message = "twice the rate, set in the state, must be twice the first move"
    assert_close(twice["w"] - params["w"], 2 * (once["w"] - params["w"]), message)


def check_masked(subject):
    """A full mask changes nothing; what a mask leaves out passes by."""
    transformation = subject.transformation
    with promised("a masked transformation must run"):
        plain = plain_program(transformation)
        whole = program(optax.masked(transformation, {"w": True}), matrix())
        assert whole == plain, "a mask of all parameters changed what is computed"
        params = {**matrix(), "b": jnp.zeros(3)}
        half = optax.masked(transformation, {"w": True, "b": False})

        def worker(vector):
            updates, _ = half.update(vector, half.init(params), params)
            assert kinds(updates) == kinds(params), "updates under a mask"
            assert updates["b"] is vector["b"], "a masked leaf was changed"
            return updates

        jax.eval_shape(
            jax.vmap(worker, axis_name=AXIS, axis_size=WORKERS), vectors(params)
        )


def check_partition(subject):
    """Each of two parts moves as it does alone."""
    transformation, params = subject.transformation, {**matrix(), "b": jnp.ones(3)}
    parts = {"first": transformation, "second": transformation}
    optimizer = optax.partition(parts, {"w": "first", "b": "second"})
    with promised("a partitioned transformation must run"):
        run = Run(optimizer, workers=WORKERS)
        moved, _ = run(params, initial(optimizer, params), calls=2)
    assert (moved["b"] != params["b"]).all(), "the second part did not move"
    alone = initial(transformation, matrix())
    expected, _ = by_vmap(transformation)(matrix(), alone, calls=2)
    assert_close(moved["w"], expected["w"], "partitioned and alone differ")


CONTRACTS = {
    "extra_args": check_extra_args,
    "abstract_init": check_abstract_init,
    "pure": check_pure,
    "no_recompile": check_no_recompile,
    **{
        dtype: functools.partial(check_dtype, dtype)
        for dtype in ("float32", "bfloat16", "float16", "float64")
    },
    "control_flow": check_control_flow,
    "donation": check_donation,
    "trees": check_trees,
    "vmap_and_shard_map": check_vmap_and_shard_map,
    "pickling": check_pickling,
    "inject_hyperparams": check_inject_hyperparams,
    "masked": check_masked,
    "partition": check_partition,
}
