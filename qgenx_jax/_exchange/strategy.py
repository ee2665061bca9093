"""What every strategy does: the mean of parts over workers, and an account of it.

A strategy is a file: `all_reduce`, `all_gather`, `reduce_scatter`, `hierarchical`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp

from qgenx_jax import _checks, _trees
from qgenx_jax._codec import packing
from qgenx_jax._codec.bits import Stream
from qgenx_jax._exchange import checksum
from qgenx_jax._exchange.parts import Part, Pieces
from qgenx_jax._exchange.traffic import Phase, phase
from qgenx_jax._types import Array, AxisName
from qgenx_jax._workers import collectives


class Wanted(NamedTuple):
    """What is wanted of an exchange besides the mean.

    Attributes:
        own: whether this worker's own decoded vectors are.
        scalars: from those, one for each part, what rides along, () or (m,), or None;
            or None.
    """

    own: bool = False
    scalars: Callable[[Sequence[Pieces]], Array | None] | None = None


class Found(NamedTuple):
    """What a strategy returns.

    Attributes:
        means: over workers, of each part, equal on all.
        own: this worker's decoded vector of each part, where it is wanted.
        scalars: what rode along, (K,) or (K, m), where it is wanted.
    """

    means: Sequence[Pieces]
    own: Sequence[Pieces] | None
    scalars: Array | None


class Strategy(Protocol):
    """A way from the vectors of K workers to their mean on all of them."""

    @property
    def name(self) -> str:
        """As `Traffic.collective` has it."""
        ...

    def mean(
        self,
        parts: Sequence[Part],
        vectors: Sequence[Array],
        streams: Sequence[Stream],
        wanted: Wanted,
        axis_name: AxisName,
    ) -> Found:
        """The exchange.

        Contributions are added up in the order of the workers, so that all of them,
        however they are mapped, get the same bits.

        Args:
            parts: how the vectors travel.
            vectors: this worker's, one for each part.
            streams: of the bits that round, this worker's for each part.
            wanted: besides the mean.
            axis_name: the axis over workers.
        """
        ...

    def own(
        self,
        parts: Sequence[Part],
        vectors: Sequence[Array],
        streams: Sequence[Stream],
        axis_name: AxisName,
    ) -> Sequence[Pieces]:
        """This worker's own decoded vectors, as `mean` has them, without a collective.

        Raises:
            ValueError: where no worker's own vector is quantized.
        """
        ...

    def phases(
        self, parts: Sequence[Part], workers: int, scalar_bytes: int
    ) -> tuple[Phase, ...]:
        """The collectives of K workers, and their bytes."""
        ...


def scalars(value: Any) -> Array:
    """What rides along, in its own dtype or float32, whichever is wider.

    Raises:
        ValueError: if it is not one real number, or a vector of them.
    """
    array = jnp.asarray(value) if isinstance(value, (int, float)) else value
    dtype = getattr(array, "dtype", None)
    is_real = dtype is not None and (
        jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    )
    if not is_real or array.ndim > 1:
        rule = "must return one real number, or a short vector of them"
        raise _checks.refuse("scalar", rule, value, "sum up what it returns")
    return _trees.widen(jnp.asarray(array))


def gather(
    sent: Sequence[Array],
    scalars: Array | None,
    axis_name: AxisName,
    fits: list[Array] | None = None,
) -> tuple[Array, Array | None]:
    """All workers' bytes (K, bytes) by one all-gather, and what rode along (K, ...).

    `fits` is None without checksums, else where it is noted whether they fit.
    """
    tail = [] if scalars is None else [packing.to_bytes(scalars)]
    buffer = _trees.concatenate([*sent, *tail], "uint8")
    gathered = moved(collectives.gather, buffer, axis_name, fits)
    if scalars is None:
        return gathered, None
    end = gathered.shape[1] - scalars.nbytes
    shape = (gathered.shape[0], *scalars.shape)
    return gathered[:, :end], packing.from_bytes(
        gathered[:, end:], shape, scalars.dtype
    )


def moved(
    collective: Callable[[Array, AxisName], Array],
    sent: Array,
    axis_name: AxisName,
    fits: list[Array] | None,
) -> Array:
    """What arrives of messages (..., bytes), (K, bytes); `fits` is that of `gather`."""
    if fits is None:
        return collective(sent, axis_name)
    arrived = collective(checksum.sealed(sent, axis_name), axis_name)
    rows, all_fit = checksum.opened(arrived)
    fits.append(all_fit)
    return rows


def guarded(found: Found, fits: list[Array] | None, axis_name: AxisName) -> Found:
    """What was found, NaN on all workers where on any of them something did not fit."""
    if fits is None:
        return found
    good = checksum.fit_everywhere(fits, axis_name)
    means = [[checksum.spoiled(good, x) for x in pieces] for pieces in found.means]
    carried = found.scalars
    carried = None if carried is None else checksum.spoiled(good, carried)
    return found._replace(means=means, scalars=carried)


def telling(workers: int) -> Phase:
    """The phase in which workers tell each other whether all has fitted."""
    told, none = checksum.N_BYTES, lambda part: 0
    sent_of = lambda n: (workers - 1) * n  # noqa: E731
    return phase("all_gather", workers, [], none, 0, sent_of, checksum_bytes=told)
