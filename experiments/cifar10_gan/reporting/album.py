"""Pictures to show: the same latents while G trains, between latents, beside real ones.

All are of 64 fixed latents and the moving average of G's weights. Frames of the
animation are files, so a run that is resumed has those of before.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from PIL import Image

from experiments.cifar10_gan.config import key_of
from experiments.cifar10_gan.data.pictures import to_bytes, to_signed
from experiments.cifar10_gan.reporting.figures import picture_grid, sample_grid
from experiments.cifar10_gan.run import Run, weights_of
from experiments.common import figures

SIDE = 8
"""Pictures in a row, and rows."""
FRAMES_PER_DOUBLING = 8
MILLISECONDS = 120
"""That a frame is shown; the last one `PAUSE` times as long."""
PAUSE = 15

_PART = 4096  # real pictures that are compared at once


class Album:
    """The pictures of one run."""

    def __init__(self, run: Run) -> None:
        """Draws the latents, which the seed alone decides."""
        self._latents = jax.random.normal(
            key_of(run.config, "album"), (SIDE * SIDE, run.config.latent)
        )
        self._generate = jax.jit(run.pair.generate)
        self._frames = run.workdir / "frames"

    def record(self, run: Run) -> None:
        """Writes a frame, if the iteration, which is one that is logged, has one."""
        iteration, every = run.iteration, run.config.log_every
        if iteration % every == 0 and has_frame(iteration // every):
            path = self._frames / f"{iteration:06d}.png"
            sample_grid(self._pictures(run), path, columns=SIDE, scale=1)

    def finish(self, run: Run) -> dict[str, np.ndarray]:
        """Writes training.gif, interpolations.png and neighbours.png in the workdir.

        Returns:
            Grids by name, for the logs.
        """
        frames = [p for p in self._frames.glob("*.png") if p.stem.isdigit()]
        # a run that was killed may have gone further than it has now
        done = sorted(path for path in frames if int(path.stem) <= run.iteration)
        pictures = self._pictures(run)
        last = picture_grid(pictures, columns=SIDE, scale=1)
        animate(done, last, run.workdir / "training.gif")
        between = self._pictures(run, interpolated(self._latents))
        path = run.workdir / "interpolations.png"
        grids = {"interpolations": sample_grid(between, path, columns=SIDE)}
        path = run.workdir / "neighbours.png"
        draw_neighbours(pictures[:36], run.pictures, path)
        return grids

    def _pictures(self, run: Run, latents: Any = None) -> np.ndarray:
        """uint8 (64, 32, 32, 3)."""
        weights = weights_of(run)["ema"]
        latents = self._latents if latents is None else latents
        return to_bytes(np.asarray(self._generate(weights, latents)))


def has_frame(place: int) -> bool:
    """Whether the row of that number has a frame: each at first, then ever fewer.

    Eight in every doubling, since pictures change less and less: 39 in 120 rows, 89 in
    10,000.
    """
    return place % max(1, (1 << place.bit_length()) // (2 * FRAMES_PER_DOUBLING)) == 0


def animate(
    frames: Sequence[pathlib.Path], last: np.ndarray, path: pathlib.Path
) -> None:
    """Writes frames as a GIF that loops, with another one, (h, w, 3) bytes, at the end.

    Each pixel of a frame becomes 2 x 2, in 64 colours that all frames share.
    """
    palette = Image.fromarray(last).quantize(64)
    images = []
    for frame in (*frames, last):
        if isinstance(frame, np.ndarray):
            image = Image.fromarray(frame)
        else:
            with Image.open(frame) as opened:
                image = opened.convert("RGB")
        image = image.quantize(palette=palette, dither=Image.Dither.NONE)
        size = 2 * image.width, 2 * image.height
        images.append(image.resize(size, Image.Resampling.NEAREST))
    images[0].save(
        path,
        save_all=True,
        append_images=images[1:],
        duration=[MILLISECONDS] * (len(images) - 1) + [PAUSE * MILLISECONDS],
        loop=0,
    )


def interpolated(latents: jax.Array) -> np.ndarray:
    """Eight rows of eight latents, each from one of the first eight to one of the next.

    Along a great circle, on which normal latents keep the length that G knows:

        z(t) = (sin((1 - t) w) a + sin(t w) b) / sin w,   cos w = <a, b> / (|a| |b|)

    Args:
        latents: (16 or more, latent).

    Returns:
        (64, latent), row by row, t from 0 to 1.
    """
    a, b = (np.asarray(latents[i : i + SIDE])[:, None] for i in (0, SIDE))
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    cosine = np.clip(np.sum(a * b, axis=-1) / lengths, -1, 1)
    angle = np.arccos(cosine)[..., None]
    t = np.linspace(0, 1, SIDE)[None, :, None]
    sine = np.sin(angle)
    is_line = sine < 1e-3  # parallel ones are on no single circle, as in one dimension
    arc = np.sin((1 - t) * angle) * a + np.sin(t * angle) * b
    arc /= np.where(is_line, 1, sine)
    between = np.where(is_line, (1 - t) * a + t * b, arc)
    return between.reshape(SIDE * SIDE, -1).astype(np.float32)


def nearest(pictures: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Which real picture is the nearest to each, by the distance of their pixels.

    Args:
        pictures: uint8 (n, ...).
        real: uint8 (m, ...).

    Returns:
        Their rows in `real`, (n,).
    """
    x = to_signed(pictures).reshape(len(pictures), -1)
    best, rows = np.full(len(x), np.inf), np.zeros(len(x), np.int64)
    for start in range(0, len(real), _PART):
        y = to_signed(real[start : start + _PART])
        y = y.reshape(len(y), -1)
        # but for |x|^2, which is the same for all
        distances = np.sum(y * y, axis=1) - 2 * x @ y.T
        row = np.argmin(distances, axis=1)
        least = np.take_along_axis(distances, row[:, None], axis=1)[:, 0]
        rows = np.where(least < best, start + row, rows)
        best = np.minimum(best, least)
    return rows


def draw_neighbours(pictures: np.ndarray, real: np.ndarray, path: pathlib.Path) -> None:
    """Draws real pictures, generated ones, and the nearest real one to each of these.

    A generator that has learnt its pictures by heart shows the second in the third.

    Args:
        pictures: generated, uint8 (n, 32, 32, 3).
        real: those that it was trained on, of the same shape but for n.
        path: of the figure.
    """
    spread = np.linspace(0, len(real) - 1, len(pictures)).astype(int)
    panels = {
        "real": real[spread],
        "generated": pictures,
        "the nearest real ones to these": real[nearest(pictures, real)],
    }
    figure = figures.new_figure(3.4 * len(panels), 3.7)
    for axes, (title, shown) in zip(
        figure.subplots(1, len(panels)), panels.items(), strict=True
    ):
        axes.imshow(picture_grid(shown))
        axes.set_title(title, fontsize="medium")
        axes.set_axis_off()
    figures.save_figure(figure, path)
