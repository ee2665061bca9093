"""Pictures drawn by a seeded procedure, and the two pixel scales.

They need no download and still ask something of a GAN: a background that runs from one
colour to another at any angle, and one to three layers on it, each a disc, a turned
rectangle, stripes, a checkerboard or a soft blob of random place, size, angle, colour
and opacity, with smooth edges.
"""

from collections.abc import Callable

import numpy as np

SIDE = 32
"""Height and width of a picture in pixels."""

_LAYERS = 3
_PART = 1024  # pictures drawn at once: 8 MiB per float64 mask

_Columns = np.ndarray
"""Float64 of shape (m, 1, 1): one number per picture."""


def draw_pictures(n: int, *, seed: int, stream: int = 0) -> np.ndarray:
    """Draws n pictures; the first m of them are those of ``draw_pictures(m, ...)``.

    Args:
        n: how many.
        seed: the same seed gives the same bytes (on one machine and NumPy).
        stream: another number, another set under the same seed (training and test).

    Returns:
        uint8 of shape (n, 32, 32, 3).

    Raises:
        ValueError: if n, seed or stream is negative.
    """
    for name, value in (("n", n), ("seed", seed), ("stream", stream)):
        if value < 0:
            raise ValueError(
                f"{name} must be at least 0, got {value}; pass a non-negative integer"
            )
    out = np.empty((n, SIDE, SIDE, 3), np.uint8)
    for part, start in enumerate(range(0, n, _PART)):
        # Always whole parts, so that a picture does not depend on how many follow it.
        rng = np.random.default_rng([seed, stream, part])
        out[start : start + _PART] = _draw_part(rng)[: n - start]
    return out


def to_signed(pictures: np.ndarray) -> np.ndarray:
    """uint8 in [0, 255] to float32 in [-1, 1]: x / 127.5 - 1, any shape."""
    signed = pictures.astype(np.float32)
    signed /= np.float32(127.5)  # in place: a batch is large
    signed -= np.float32(1)
    return signed


def to_bytes(pictures: np.ndarray) -> np.ndarray:
    """Floats in [-1, 1] to uint8, any shape: floor(127.5 (clip(x) + 1)).

    Clamped and truncated, not rounded, as the scores of the literature do.

    Raises:
        ValueError: if a value is not finite, which no byte can show.
    """
    if not np.all(np.isfinite(pictures)):
        bad = int(np.size(pictures) - np.count_nonzero(np.isfinite(pictures)))
        raise ValueError(
            f"pictures must be finite, got {bad} NaN or infinite values; the generator "
            "has diverged, go back to an earlier checkpoint"
        )
    return ((np.clip(pictures, -1, 1) + 1) * 127.5).astype(np.uint8)


def _draw_part(rng: np.random.Generator) -> np.ndarray:
    pictures = _backgrounds(rng, _PART)
    layers = rng.integers(1, _LAYERS + 1, _PART)
    for layer in range(_LAYERS):
        family = np.where(layers > layer, rng.integers(0, len(_FAMILIES), _PART), -1)
        for index, mask in enumerate(_FAMILIES):
            chosen = np.flatnonzero(family == index)
            m = len(chosen)
            opacity = _uniform(rng, m, 0.6, 1.0)
            alpha = (mask(rng, m) * opacity)[..., None]
            colour = rng.uniform(0, 1, (m, 1, 1, 3))
            pictures[chosen] += alpha * (colour - pictures[chosen])
    # Half a step and truncation round to the nearest; the values are in [0, 1].
    return (pictures * 255 + 0.5).astype(np.uint8)


def _backgrounds(rng: np.random.Generator, m: int) -> np.ndarray:
    """Linear gradients between two colours, (m, 32, 32, 3) in [0, 1]."""
    u, _ = _frame(rng, m, centred=True)
    weight = np.clip(u / SIDE + 0.5, 0, 1)[..., None]
    first, second = rng.uniform(0, 1, (2, m, 1, 1, 3))
    return first + weight * (second - first)


def _disc(rng: np.random.Generator, m: int) -> np.ndarray:
    u, v = _frame(rng, m)
    return _inside(np.sqrt(u * u + v * v) - _uniform(rng, m, 3, 11))


def _rectangle(rng: np.random.Generator, m: int) -> np.ndarray:
    u, v = _frame(rng, m)
    width, height = _uniform(rng, m, 3, 11), _uniform(rng, m, 3, 11)
    return _inside(np.maximum(np.abs(u) - width, np.abs(v) - height))


def _stripes(rng: np.random.Generator, m: int) -> np.ndarray:
    u, _ = _frame(rng, m)
    return _inside(_ridge(u, _uniform(rng, m, 5, 14)))


def _checkerboard(rng: np.random.Generator, m: int) -> np.ndarray:
    u, v = _frame(rng, m)
    period = _uniform(rng, m, 8, 18)
    a, b = _inside(_ridge(u, period)), _inside(_ridge(v, period))
    return a + b - 2 * a * b  # exclusive or of two sets of stripes


def _blob(rng: np.random.Generator, m: int) -> np.ndarray:
    u, v = _frame(rng, m)
    width, height = _uniform(rng, m, 2, 8), _uniform(rng, m, 2, 8)
    return np.exp(-0.5 * ((u / width) ** 2 + (v / height) ** 2))


_FAMILIES: tuple[Callable[[np.random.Generator, int], np.ndarray], ...] = (
    _disc,
    _rectangle,
    _stripes,
    _checkerboard,
    _blob,
)


def _frame(
    rng: np.random.Generator, m: int, *, centred: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates in a random place and at a random angle, two (m, 32, 32)."""
    middle = (SIDE - 1) / 2
    spread = 0.0 if centred else SIDE * 0.4
    axis = np.arange(SIDE, dtype=np.float64)
    x = axis[None, None, :] - middle - _uniform(rng, m, -spread, spread)
    y = axis[None, :, None] - middle - _uniform(rng, m, -spread, spread)
    angle = _uniform(rng, m, 0, 2 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


def _uniform(rng: np.random.Generator, m: int, low: float, high: float) -> _Columns:
    return rng.uniform(low, high, (m, 1, 1))


def _inside(distance: np.ndarray) -> np.ndarray:
    """Coverage in [0, 1] of pixels at a signed distance from an edge, in pixels."""
    return np.clip(0.5 - distance, 0, 1)


def _ridge(u: np.ndarray, period: _Columns) -> np.ndarray:
    """Signed distance to stripes that fill half of each period."""
    return np.abs(np.mod(u, period) - period / 2) - period / 4
