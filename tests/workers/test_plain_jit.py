"""A worker's own value and gradient in an ordinary jitted step."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, mesh_of

WORKERS, BATCH = 4, 12


def loss(params, x, y, scale=1.0):
    return scale * jnp.mean((jnp.tanh(x @ params["w"]) - y) ** 2)


def problem():
    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(6, 3)).astype(np.float32)}
    x = rng.normal(size=(BATCH, 6)).astype(np.float32)
    return params, x, rng.normal(size=(BATCH, 3)).astype(np.float32)


def mesh_of_kind(kind, *, model=False):
    sizes, names = ((2, 2), (AXIS, "model")) if model else ((WORKERS,), (AXIS,))
    devices = jax.devices()[:WORKERS]
    return jax.make_mesh(sizes, names, (kind,) * len(sizes), devices=devices)


def own(params, x, y, workers=WORKERS, **more):
    """Each worker's value and gradient, one after the other."""
    cut = zip(jnp.split(x, workers), jnp.split(y, workers), strict=True)
    found = [jax.value_and_grad(loss)(params, *own, **more) for own in cut]
    values, gradients = zip(*found, strict=True)
    return np.mean(values), jax.tree.map(lambda *g: jnp.stack(g), *gradients)


def check(found, wanted):
    (value, rows), (expected, gradients) = found, wanted
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7),
        rows,
        gradients,
    )


@pytest.mark.quick
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("jitted", [True, False], ids=["jit", "eager"])
@pytest.mark.parametrize("is_set", [True, False], ids=["set_mesh", "no mesh set"])
def test_rows_are_the_workers_own(kind, jitted, is_set):
    mesh, given = mesh_of_kind(kind), problem()
    run = qgenx.value_and_grad(loss, AXIS, mesh=mesh)
    with jax.set_mesh(mesh) if is_set else contextlib.nullcontext():
        placed = jax.device_put(given, NamedSharding(mesh, P()))
        found = (jax.jit(run) if jitted else run)(*placed)
        assert found[1]["w"].sharding.spec[0] == AXIS  # a row where its worker is
    check(found, own(*given))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_other_axes_are_left_to_jit(kind):
    mesh, (params, x, y) = mesh_of_kind(kind, model=True), problem()
    params = {"w": np.concatenate([params["w"]] * 2, axis=1)}
    y = np.concatenate([y, y], axis=1)
    run = jax.jit(qgenx.value_and_grad(loss, AXIS, mesh=mesh))
    placed = jax.device_put(params, NamedSharding(mesh, P(None, "model")))
    batch = jax.device_put((x, y), NamedSharding(mesh, P(AXIS)))
    found = run(placed, *batch)
    assert found[1]["w"].sharding.spec == P(AXIS, None, "model")
    check(found, own(params, x, y, workers=2))


@pytest.mark.parametrize(
    ("arguments", "more"),
    [((), {"scale": 2.0}), ((2.0,), {}), ((np.float32(2),), {})],
    ids=["a keyword", "a number", "an array of no axis"],
)
def test_numbers_are_handed_on(arguments, more):
    mesh, given = mesh_of(WORKERS), problem()
    run = qgenx.value_and_grad(loss, AXIS, mesh=mesh)
    check(run(*given, *arguments, **more), own(*given, scale=2.0))


def test_what_is_no_array_is_handed_on_as_it_is():
    params, x, y = problem()

    def named(params, x, y, kind, *, trains):
        assert kind == "squares"
        assert trains is True
        return loss(params, x, y)

    run = qgenx.value_and_grad(named, AXIS, mesh=mesh_of(WORKERS))
    check(run(params, x, y, "squares", trains=True), own(params, x, y))


@pytest.mark.parametrize("name", ["table", 3])
@pytest.mark.parametrize("by_name", [True, False], ids=["by name", "by place"])
def test_what_is_replicated_is_handed_on_whole(by_name, name):
    params, x, y = problem()
    table = np.arange(1, BATCH + 1, dtype=np.float32)  # as long as a batch

    def with_table(params, x, y, table):
        assert table.shape == (BATCH,)
        return loss(params, x, y, scale=table[1])

    run = qgenx.value_and_grad(with_table, AXIS, mesh=mesh_of(4), replicated=name)
    found = run(params, x, y, table=table) if by_name else run(params, x, y, table)
    check(found, own(params, x, y, scale=2.0))


def test_several_arguments_and_further_ones():
    params, x, y = problem()

    def two(y, params, x, bias):
        return loss(params, x, y + bias[None])

    run = qgenx.value_and_grad(two, AXIS, argnums=(1, -1), mesh=mesh_of(WORKERS))
    value, (rows, of_bias) = run(y, params, x, np.zeros(3, np.float32))
    check((value, rows), own(params, x, y))
    assert of_bias.shape == (WORKERS, 3)


def test_each_worker_has_a_key_of_its_own():
    params, x, _ = problem()

    def noisy(params, x, key):
        return params["w"].sum() * 0 + x.sum() * jax.random.normal(key)

    run = qgenx.value_and_grad(
        lambda *given: (noisy(*given), noisy(*given)[None]),
        AXIS,
        mesh=mesh_of(WORKERS),
        has_aux=True,
    )
    key = jax.random.key(3)
    (_, each), _ = jax.jit(run)(params, jnp.ones_like(x), key)
    keys = [jax.random.fold_in(key, k) for k in range(WORKERS)]
    wanted = [x.size / WORKERS * jax.random.normal(key) for key in keys]
    np.testing.assert_allclose(each, wanted, rtol=1e-6)


def test_a_key_that_is_replicated_is_the_same_on_all():
    params, x, _ = problem()

    def words(params, x, key):
        drawn = jax.random.bits(key) + jnp.zeros_like(x[0, 0]).astype(jnp.uint32)
        return (params["w"].sum() * x.sum()), drawn[None]

    mesh = mesh_of(WORKERS)
    run = qgenx.value_and_grad(words, AXIS, mesh=mesh, has_aux=True, replicated=2)
    (_, each), _ = run(params, x, jax.random.key(3))
    assert each.tolist() == [int(jax.random.bits(jax.random.key(3)))] * WORKERS


def test_aux_is_that_of_the_whole_batch():
    params, x, y = problem()

    def with_aux(params, x, y):
        out = jnp.tanh(x @ params["w"])
        wrong = jnp.sum(out > 0)
        everywhere = jax.lax.psum(wrong, AXIS)
        aux = {"out": out, "mean": out.mean(), "count": everywhere, "one": 1}
        return jnp.mean((out - y) ** 2), aux

    run = qgenx.value_and_grad(with_aux, AXIS, mesh=mesh_of(WORKERS), has_aux=True)
    (value, aux), rows = jax.jit(run)(params, x, y)
    out = np.tanh(x @ params["w"])
    np.testing.assert_allclose(aux["out"], out, rtol=1e-5)
    np.testing.assert_allclose(aux["mean"], out.mean(), rtol=1e-5)
    assert aux["count"] == (out > 0).sum()
    assert aux["one"] == 1
    check((value, rows), own(params, x, y))


def batch_of(size):
    params, x, y = problem()
    return params, x[:size], y[:size]


@pytest.mark.quick
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: run(*batch_of(10)), "argument 1 of the loss.*multiple of 4.*10"),
        (
            lambda run: run(problem()[0], problem()[1], batch_of(4)[2]),
            "argument 2 of the loss must have as many examples.*12.*4, 3.*replicated",
        ),
        (
            lambda run: run(*problem(), scale=np.array([0, 1], np.uint32)),
            "argument 'scale' of the loss must be no key of plain words",
        ),
        (
            lambda run: run({"w": np.zeros((6, 3), int)}, *problem()[1:]),
            "leaf .'w'. of argument 0 of the loss must be a floating-point array",
        ),
    ],
    ids=["K does not divide", "two lengths", "words of a key", "whole numbers"],
)
def test_what_cannot_be_cut_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(qgenx.value_and_grad(loss, AXIS, mesh=mesh_of(WORKERS)))


def test_aux_that_cannot_be_put_together_is_refused():
    def counting(params, x, y):
        return loss(params, x, y), {"n": jnp.sum(x > 0)}

    run = qgenx.value_and_grad(counting, AXIS, mesh=mesh_of(WORKERS), has_aux=True)
    with pytest.raises(ValueError, match=r"leaf \['n'\] of aux must be a floating"):
        run(*problem())


def test_a_loss_that_changes_its_arguments_is_refused():
    params, x, y = problem()

    def counting(params, x, y, box):
        box["calls"] = box["calls"] + 1
        return loss(params, x, y)

    run = qgenx.value_and_grad(counting, AXIS, mesh=mesh_of(WORKERS), replicated=3)
    with pytest.raises(ValueError, match=r"'calls'.*must not be changed by the loss"):
        run(params, x, y, {"calls": jnp.zeros(())})


def test_a_loss_averaged_over_workers_is_refused():
    def averaged(params, x, y):
        return jax.lax.pmean(loss(params, x, y), AXIS)

    with pytest.raises(ValueError, match="must be a worker's own"):
        qgenx.value_and_grad(averaged, AXIS, mesh=mesh_of(WORKERS))(*problem())


def test_a_loop_that_begins_with_a_constant_is_told_how_to():
    params, x, y = problem()

    def looped(params, x, y, *, start):
        def add(carry, row):
            return carry + jnp.vdot(row, row), None

        squares, _ = jax.lax.scan(add, start(x), jnp.tanh(x @ params["w"]) - y)
        return squares / y.size

    differentiate = qgenx.value_and_grad(looped, AXIS, mesh=mesh_of(WORKERS))
    with pytest.raises(ValueError, match="must begin a loop with what differs"):
        differentiate(params, x, y, start=lambda x: jnp.float32(0))
    start = lambda x: jax.lax.pcast(jnp.float32(0), AXIS, to="varying")  # noqa: E731
    check(differentiate(params, x, y, start=start), own(params, x, y))


def test_a_constraint_of_an_axis_that_is_mapped_is_told_how_to():
    mesh, (params, x, y) = mesh_of(WORKERS), problem()

    def constrained(params, x, y):
        x = jax.lax.with_sharding_constraint(x, NamedSharding(mesh, P(AXIS)))
        return loss(params, x, y)

    with pytest.raises(ValueError, match="constrain shardings by a bare PartitionSpec"):
        jax.jit(qgenx.value_and_grad(constrained, AXIS, mesh=mesh))(params, x, y)


def test_numbers_of_arguments_that_are_none():
    params, x, y = problem()
    with pytest.raises(ValueError, match="as a positional argument"):
        qgenx.value_and_grad(loss, AXIS, mesh=mesh_of(2))(params=params, x=x, y=y)
    with pytest.raises(ValueError, match="argnums must be a whole number"):
        qgenx.value_and_grad(loss, AXIS, argnums=7, mesh=mesh_of(2))(params, x, y)


def test_replicated_without_a_mesh_is_refused():
    with pytest.raises(ValueError, match="replicated must be left out without a mesh"):
        qgenx.value_and_grad(loss, AXIS, replicated=1)
