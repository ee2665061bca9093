"""Convolutions whose derivatives of every order are fast on a CPU.

XLA's CPU backend is quick on a convolution with or without a stride, on its gradient
with respect to the picture and on its gradient with respect to the kernel. It is very
slow (30 to 90 times) on what differentiating *those gradients* produces, which is where
a transposed convolution and the double backward pass of a gradient penalty end up. The
cure uses that the three maps are bilinear and closed under differentiation. With

    y = C(x, w),    <y', C(x, w)> = <x, T(y', w)> = <w, G(x, y')>,

C is the convolution, T its adjoint in x and G its adjoint in w, and

    C:  dx = T(dy, w),    dw = G(x, dy),
    T:  dy = C(dx, w),    dw = G(dx, y),
    G:  dx = T(y, dw),    dy = C(x, dw),

so whatever the order of differentiation only these three appear, each written here in
its fastest form. A transposed convolution is T itself. Parameters and results are those
of the plain forms, which stand beside them; every function has PyTorch's semantics in
layouts NHWC (pictures) and HWIO (kernels).

The fast forms support reverse mode of every order, jit, vmap and shard_map, but not
forward mode (``jax.jvp``): they are built on ``jax.custom_vjp``.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

CONVOLUTIONS = ((3, 1), (3, 2), (4, 2), (1, 2))
"""(kernel size, stride) of the supported convolutions, zero padding (size - 1) // 2."""

TRANSPOSED = (4, 1)
"""Kernel sizes of the supported stride-2 transposed convolutions."""

_LAYOUT = ("NHWC", "HWIO", "NHWC")

# One part of a weight gradient: beyond about this many bytes of cotangent the CPU's
# convolution falls out of its caches (measured: 1.4 to 2.3 times slower at 8 MiB).
_PART_BYTES = 1 << 20


def plain_convolution(x: jax.Array, kernel: jax.Array, *, stride: int = 1) -> jax.Array:
    """`convolution` as one XLA convolution: the reference, and the choice on a GPU.

    Shapes, meaning and errors are those of `convolution`.
    """
    size = _check_convolution(x, kernel, stride)
    return _correlate(x, kernel, size, stride)


def plain_transposed_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`transposed_convolution` as one XLA convolution of a dilated picture.

    Shapes, meaning and errors are those of `transposed_convolution`.
    """
    size = _check_transposed(x, kernel)
    return _dilated(x, jnp.swapaxes(kernel, 2, 3), size, 2)


def convolution(x: jax.Array, kernel: jax.Array, *, stride: int = 1) -> jax.Array:
    """Convolves pictures as ``torch.nn.Conv2d(padding=(size - 1) // 2)`` does.

        y[n, p, q, f] = sum_{i, j, c} x[n, s p + i - e, s q + j - e, c] w[i, j, c, f]

    with kernel w, stride s, padding e = (size - 1) // 2, and x zero outside.

    Args:
        x: pictures, (n, h, w, c); h and w multiples of the stride.
        kernel: (size, size, c, f), of the dtype of x.
        stride: with size one of `CONVOLUTIONS`.

    Returns:
        (n, h / stride, w / stride, f), of the dtype of x.

    Raises:
        ValueError: for a size and stride that are not supported, a picture whose sides
            the stride does not divide, or shapes that do not fit each other.
    """
    size = _check_convolution(x, kernel, stride)
    if size == 1:  # a slice and a matrix product are fast to every order as they are
        return x[:, ::stride, ::stride] @ kernel[0, 0]
    return _convolve(x, kernel, stride)


def transposed_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Doubles pictures as ``torch.nn.ConvTranspose2d(size, stride=2)`` does.

        y[n, 2 p + i - e, 2 q + j - e, f] += sum_c x[n, p, q, c] w[i, j, c, f]

    over all p, q, i, j, with e = 1 for size 4 (``padding=1``) and e = 0 for size 1
    (``output_padding=1``: x reaches the even rows and columns, the rest is zero).

    Args:
        x: pictures, (n, h, w, c).
        kernel: (size, size, c, f), size one of `TRANSPOSED`, of the dtype of x. It is
            PyTorch's weight (c, f, size, size) with its axes moved, not flipped.

    Returns:
        (n, 2 h, 2 w, f), of the dtype of x.

    Raises:
        ValueError: for a size that is not supported or shapes that do not fit.
    """
    size = _check_transposed(x, kernel)
    if size == 1:
        y = x @ kernel[0, 0]
        between = ((0, 0, 0), (0, 1, 1), (0, 1, 1), (0, 0, 0))
        return lax.pad(y, jnp.zeros((), y.dtype), between)
    return _spread(x, jnp.swapaxes(kernel, 2, 3), 2)


# The three bilinear maps. `stride` is static; the picture's sides are stride times the
# output's, which is why sides that the stride does not divide are refused above.

_Pair = tuple[jax.Array, jax.Array]


def _bilinear(
    value: Callable[..., jax.Array], backward: Callable[..., _Pair], static: int
) -> Callable[..., jax.Array]:
    """`value` of two operands and some static integers, with `backward` as its rule."""
    function = jax.custom_vjp(value, nondiff_argnums=tuple(range(2, 2 + static)))
    # A bilinear map saves its two operands. Calling `function`, not `value`, keeps the
    # rule in force when this pass is itself differentiated.
    function.defvjp(lambda *args: (function(*args), args[:2]), backward)
    return function


def _convolve_value(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """C(x, w): (n, s h, s w, c) and (k, k, c, f) to (n, h, w, f)."""
    return _correlate(x, kernel, kernel.shape[0], stride)


def _convolve_backward(stride: int, saved: _Pair, dy: jax.Array) -> _Pair:
    x, kernel = saved
    dx = _spread(dy, kernel, stride)
    return dx, _kernel_sum(x, dy, stride, kernel.shape[0])


def _spread_value(y: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """T(y, w): (n, h, w, f) and (k, k, c, f) to (n, s h, s w, c)."""
    if (kernel.shape[0], stride) == (4, 2):
        return _sub_pixel(y, kernel)
    return _dilated(y, kernel, kernel.shape[0], stride)


def _spread_backward(stride: int, saved: _Pair, dx: jax.Array) -> _Pair:
    y, kernel = saved
    dy = _convolve(dx, kernel, stride)
    return dy, _kernel_sum(dx, y, stride, kernel.shape[0])


def _kernel_sum_value(x: jax.Array, y: jax.Array, stride: int, size: int) -> jax.Array:
    """G(x, y): (n, s h, s w, c) and (n, h, w, f) to (k, k, c, f)."""
    n = x.shape[0]
    wanted = max(-(-y.size * y.dtype.itemsize // _PART_BYTES), 1)
    # The smallest number of equal parts that are small enough, n itself at most.
    parts = next((k for k in range(wanted, n) if n % k == 0), max(n, 1))
    parts = 1 if wanted == 1 else parts
    pieces = [
        _correlate_with_cotangent(*pair, stride, size)
        for pair in zip(jnp.split(x, parts), jnp.split(y, parts), strict=True)
    ]
    return functools.reduce(jnp.add, pieces)


def _kernel_sum_backward(
    stride: int, size: int, saved: _Pair, dkernel: jax.Array
) -> _Pair:
    del size  # dkernel has it
    x, y = saved
    return _spread(y, dkernel, stride), _convolve(x, dkernel, stride)


_convolve = _bilinear(_convolve_value, _convolve_backward, static=1)
_spread = _bilinear(_spread_value, _spread_backward, static=1)
_kernel_sum = _bilinear(_kernel_sum_value, _kernel_sum_backward, static=2)


# What the three maps run; nothing below is differentiated on the fast path.


def _correlate(x: jax.Array, kernel: jax.Array, size: int, stride: int) -> jax.Array:
    edge = ((size - 1) // 2, (size - 1) // 2)
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), (edge, edge), dimension_numbers=_LAYOUT
    )


def _dilated(y: jax.Array, kernel: jax.Array, size: int, stride: int) -> jax.Array:
    """T(y, w) as the correlation of y, zeros between, with w flipped: (n, h, w, c)."""
    edge = (size - 1) // 2
    low = size - 1 - edge
    # A side of s h: s (h - 1) + 1 dilated, + low + high, - (size - 1).
    high = stride - 2 + size - low
    return lax.conv_general_dilated(
        y,
        jnp.swapaxes(kernel[::-1, ::-1], 2, 3),
        (1, 1),
        ((low, high), (low, high)),
        lhs_dilation=(stride, stride),
        dimension_numbers=_LAYOUT,
    )


def _sub_pixel(y: jax.Array, kernel: jax.Array) -> jax.Array:
    """T(y, w) for size 4 and stride 2: one 2 x 2 convolution to 4 c channels.

    Output pixel 2 p + a (a = 0, 1) takes kernel rows i with 2 p' + i - 1 = 2 p + a:
    row 3 - a from p' = p - 1 + a and row 1 - a from p' = p + a; columns likewise. So
    phase (a, b) is y, padded by one, correlated with the 2 x 2 kernel of those rows and
    columns and read from offset (a, b). One convolution for all four phases reads y
    once and beats four (10 against 16 ms at 16 x 16 x 128, batch 16, two cores); only
    its own derivatives would be slow, and they are never taken.
    """
    n, h, w, _ = y.shape
    channels = kernel.shape[2]
    flipped = jnp.swapaxes(kernel, 2, 3)
    phases = [flipped[3 - a :: -2, 3 - b :: -2] for a in (0, 1) for b in (0, 1)]
    z = lax.conv_general_dilated(
        y,
        jnp.concatenate(phases, axis=3),
        (1, 1),
        ((1, 1), (1, 1)),
        dimension_numbers=_LAYOUT,
    ).reshape(n, h + 1, w + 1, 2, 2, channels)
    rows = []
    for a in (0, 1):
        columns = [z[:, a : a + h, b : b + w, a, b] for b in (0, 1)]
        rows.append(jnp.stack(columns, axis=3).reshape(n, h, 2 * w, channels))
    return jnp.stack(rows, axis=2).reshape(n, 2 * h, 2 * w, channels)


def _correlate_with_cotangent(
    x: jax.Array, y: jax.Array, stride: int, size: int
) -> jax.Array:
    """G(x, y) as one convolution that contracts pictures: (size, size, c, f).

    Channels of x take the place of the batch, those of y that of the features, and y,
    zeros between for a stride, that of the kernel.
    """
    edge = (size - 1) // 2
    padding = [
        (edge, size - 1 + stride * (short - 1) + 1 - long - edge)
        for long, short in zip(x.shape[1:3], y.shape[1:3], strict=True)
    ]
    return lax.conv_general_dilated(
        x,
        y,
        (1, 1),
        padding,
        rhs_dilation=(stride, stride),
        dimension_numbers=("CHWN", "IHWO", "HWNC"),
    )


def _check_convolution(x: jax.Array, kernel: jax.Array, stride: int) -> int:
    """Checks what `convolution` takes and returns the kernel's size."""
    size = _check_shapes(x, kernel)
    if (size, stride) not in CONVOLUTIONS:
        raise ValueError(
            f"kernel and stride must be one of {CONVOLUTIONS} (size, stride), got size "
            f"{size} and stride {stride}; use lax.conv_general_dilated for others"
        )
    if x.shape[1] % stride or x.shape[2] % stride:
        raise ValueError(
            f"x must have sides divisible by stride {stride}, got {x.shape[1:3]}; crop "
            "or pad the pictures first"
        )
    return size


def _check_transposed(x: jax.Array, kernel: jax.Array) -> int:
    """Checks what `transposed_convolution` takes and returns the kernel's size."""
    size = _check_shapes(x, kernel)
    if size not in TRANSPOSED:
        raise ValueError(
            f"kernel must have a size in {TRANSPOSED}, got {size}; use "
            "lax.conv_transpose for others"
        )
    return size


def _check_shapes(x: jax.Array, kernel: jax.Array) -> int:
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[3] != kernel.shape[2]:
        raise ValueError(
            "x and kernel must have shapes (n, h, w, c) and (size, size, c, f) with "
            f"one c, got {x.shape} and {kernel.shape}; move the axes to NHWC and HWIO"
        )
    if kernel.shape[0] != kernel.shape[1]:
        raise ValueError(
            f"kernel must be square, got {kernel.shape[:2]}; pad it with zeros"
        )
    return kernel.shape[0]
