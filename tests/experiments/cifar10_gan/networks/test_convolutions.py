"""The fast convolutions are the plain ones, to the second derivative and beyond."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from experiments.cifar10_gan.networks import convolutions as c
from tests.lib.helpers import PLAIN

# Kernel size and stride; "up" marks the transposed convolutions.
KINDS = [*c.CONVOLUTIONS, *((size, "up") for size in c.TRANSPOSED)]
CHANNELS, FILTERS = 3, 5


def functions(size, stride):
    if stride == "up":
        return c.transposed_convolution, c.plain_transposed_convolution

    def fast(x, kernel):
        return c.convolution(x, kernel, stride=stride)

    def plain(x, kernel):
        return c.plain_convolution(x, kernel, stride=stride)

    return fast, plain


def operands(size, *, side=(6, 8), n=2, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, *side, CHANNELS)).astype(dtype)
    return x, rng.standard_normal((size, size, CHANNELS, FILTERS)).astype(dtype)


def by_loops(x, kernel, stride):
    """Both maps straight from their definitions, one product at a time."""
    n, h, w, _ = x.shape
    size, edge = kernel.shape[0], (kernel.shape[0] - 1) // 2
    up = stride == "up"
    step = 2 if up else stride
    shape = (2 * h, 2 * w) if up else (h // step, w // step)
    y = np.zeros((n, *shape, kernel.shape[3]))
    # (p, q) runs over the smaller picture, (a, b) over the larger.
    for p, q in np.ndindex(*((h, w) if up else shape)):
        for i, j in np.ndindex(size, size):
            a, b = step * p + i - edge, step * q + j - edge
            if up and 0 <= a < 2 * h and 0 <= b < 2 * w:
                y[:, a, b] += x[:, p, q] @ kernel[i, j]
            elif not up and 0 <= a < h and 0 <= b < w:
                y[:, p, q] += x[:, a, b] @ kernel[i, j]
    return y


@pytest.mark.parametrize(("size", "stride"), KINDS)
def test_both_forms_equal_the_definition(size, stride):
    with jax.enable_x64():
        x, kernel = operands(size)
        expected = by_loops(x, kernel, stride)
        for function in functions(size, stride):
            got = jax.jit(function)(x, kernel)
            chex.assert_trees_all_close(got, expected, rtol=1e-12, atol=1e-12)


def test_transposed_1x1_reaches_one_pixel_of_four():
    x, kernel = operands(1, dtype=np.float32)
    y = np.array(jax.jit(c.transposed_convolution)(x, kernel))
    assert np.all(y[:, ::2, ::2] != 0), "the even pixels must carry x"
    y[:, ::2, ::2] = 0
    assert not y.any(), "every other pixel must be left to the bias"


@pytest.mark.parametrize(
    ("size", "stride", "part_bytes"),
    # A part of one byte forces as many parts as there are pictures.
    [*((*kind, 1 << 20) for kind in KINDS), (4, "up", 1)],
)
def test_derivatives_to_third_order_equal_the_plain_ones(
    size, stride, part_bytes, monkeypatch
):
    monkeypatch.setattr(c, "_PART_BYTES", part_bytes)

    def derivatives(function, x, kernel):
        def value(x, kernel):
            return jnp.sum(jnp.sin(function(x, kernel)))

        def slope(x, kernel):  # what a gradient penalty does
            return jnp.sum(jnp.square(jax.grad(value)(x, kernel)))

        def bend(x, kernel):
            dx, dkernel = jax.grad(slope, (0, 1))(x, kernel)
            return jnp.sum(jnp.square(dx)) + jnp.sum(jnp.sin(dkernel))

        return [jax.grad(f, (0, 1))(x, kernel) for f in (value, slope, bend)]

    with jax.enable_x64():
        x, kernel = operands(size, side=(2, 4), n=3)
        both = functions(size, stride)
        run = jax.jit(
            lambda *a: [derivatives(f, *a) for f in both], compiler_options=PLAIN
        )
        fast, plain = run(x, 0.3 * kernel)
        for order, pair in enumerate(zip(fast, plain, strict=True), start=1):
            chex.assert_trees_all_close(
                *pair, rtol=1e-9, atol=1e-9, custom_message=f"order {order} differs"
            )


@pytest.mark.parametrize(("size", "stride"), KINDS)
def test_dtype_and_shape_are_kept(size, stride):
    fast, plain = functions(size, stride)
    for dtype in (jnp.float32, jnp.bfloat16):
        x, kernel = (jnp.asarray(a, dtype) for a in operands(size, dtype=np.float32))
        got, expected = (jax.eval_shape(f, x, kernel) for f in (fast, plain))
        chex.assert_trees_all_equal_shapes_and_dtypes(got, expected)


def test_vmap_and_empty_batches():
    x, kernel = operands(4, dtype=np.float32)
    stack = jnp.stack([x, 2 * x])

    @jax.jit
    def slope(x):
        return jax.grad(lambda k: jnp.sum(c.transposed_convolution(x, k) ** 2))(kernel)

    # The sum of squares is quadratic in x, and so is its gradient.
    expected = jnp.stack([slope(x), 4 * slope(x)])
    stacked = jax.jit(jax.vmap(slope))(stack)
    chex.assert_trees_all_close(stacked, expected, rtol=1e-4, atol=1e-3)
    assert not slope(x[:0]).any(), "no pictures, no gradient"


def test_works_in_shard_map_on_varying_operands():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    x, kernel = operands(3, n=4, dtype=np.float32)

    def slope(x, kernel):
        kernel = jax.lax.pcast(kernel, "data", to="varying")
        return jax.grad(lambda k: jnp.sum(c.convolution(x, k, stride=2) ** 2) / 4)(
            kernel
        )

    parts = jax.jit(
        jax.shard_map(
            lambda x, k: jax.lax.psum(slope(x, k), "data"),
            mesh=mesh,
            in_specs=(PartitionSpec("data"), PartitionSpec()),
            out_specs=PartitionSpec(),
        )
    )(x, kernel)
    loss = lambda k: jnp.sum(c.convolution(x, k, stride=2) ** 2) / 4  # noqa: E731
    whole = jax.jit(jax.grad(loss))(kernel)
    chex.assert_trees_all_close(parts, whole, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("x", "kernel", "stride", "text"),
    [
        ((2, 8, 8, 3), (5, 5, 3, 4), 1, "one of .* got size 5 and stride 1"),
        ((2, 8, 8, 3), (3, 3, 3, 4), 3, "got size 3 and stride 3"),
        ((2, 7, 8, 3), (3, 3, 3, 4), 2, r"divisible by stride 2, got \(7, 8\)"),
        ((2, 8, 8, 3), (3, 3, 4, 4), 1, r"with one c, got \(2, 8, 8, 3\)"),
        ((8, 8, 3), (3, 3, 3, 4), 1, "move the axes"),
        ((2, 8, 8, 3), (3, 4, 3, 4), 1, "must be square"),
        ((2, 8, 8, 3), (3, 3, 3, 4), "up", r"size in \(4, 1\), got 3"),
    ],
)
def test_errors_name_the_rule_and_the_value(x, kernel, stride, text):
    for function in functions(kernel[0], stride):
        with pytest.raises(ValueError, match=text):
            function(jnp.zeros(x), jnp.zeros(kernel))
