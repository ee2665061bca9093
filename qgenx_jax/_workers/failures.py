"""What fails at run time between workers, under one name."""

import contextlib
import re
from collections.abc import Iterator

_COLLECTIVE = re.compile(
    r"(all|reduce|collective|broad)[-_ ]?"
    r"(gather|reduce|to[-_ ]?all|scatter|permute|cast)",
    re.IGNORECASE,
)
_CARRIER = re.compile(
    r"gloo|nccl|rccl|rendezvous|connection|socket|broken pipe|peer|tim(ed|e)[ -]?out",
    re.IGNORECASE,
)
"""In an error of what carries collectives; others name one where a program is wrong."""


class ExchangeError(RuntimeError):
    """Raised at run time where an exchange between workers has failed.

    Where Python sees that, and so nowhere else: JAX hands a step to the devices and
    goes on, so that what fails in it is raised to whoever asks for its results, by
    `jax.block_until_ready` or `numpy.asarray`, as an error of JAX's. `naming` is for
    there. Raised by it are also `map_workers`' functions, where JAX tells them, that is
    on several CPU devices of a process, whose steps wait for one another;
    `check_replicas` outside of compiled functions, `Drift.raise_for` (there it is a
    ValueError as well), and `SkipNotFiniteState.raise_after`. Not seen at all is a
    worker that does not come: XLA waits, and on CPUs ends the process.

    Attributes:
        collective: what failed, of "all_gather", "all_reduce", "all_to_all",
            "reduce_scatter", "collective_permute" (of which "reduce_scatter" on CPUs
            makes its all-to-all) and "broadcast"; or "" where it was none: something
            was compared, or counted.

    Example:
        >>> import jax, qgenx_jax as qgenx
        >>> with qgenx.ExchangeError.naming():  # around what waits for a step's results
        ...     raise RuntimeError("UNKNOWN: Gloo AllGather failed: Connection reset")
        Traceback (most recent call last):
        ...
        qgenx_jax._workers.failures.ExchangeError: all_gather must reach all ...
    """

    def __init__(self, message: str, collective: str = "") -> None:
        super().__init__(message)
        self.collective = collective

    @classmethod
    @contextlib.contextmanager
    def naming(cls) -> Iterator[None]:
        """A context: JAX's errors of a collective inside are raised as this one.

        Others stay as they are. The error of JAX's is the `__cause__`.

        Raises:
            ExchangeError: where a collective has failed.
        """
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, cls):
                raise
            text = " ".join(str(error).split())
            collective = collective_of(text)
            if not collective:
                raise
            # what JAX puts before it grows with the steps that were under way
            at = _COLLECTIVE.search(text)
            found = text[max(at.start() - 20, 0) if at else 0 :][:300]
            raise cls(
                f"{collective} must reach all workers, got {found!r}: another process "
                "is gone, or the network does not carry it; end all of them, and go "
                "on from what was saved last",
                collective,
            ) from error


class Differing(ExchangeError, ValueError):
    """Copies that differ: found at run time, in an argument."""


def collective_of(text: str) -> str:
    """The collective that an error of JAX's tells of; "" where it is of none."""
    if not _CARRIER.search(text):
        return ""
    found = _COLLECTIVE.search(text)
    if found is None:
        return ""
    first, second = (part.lower() for part in found.groups())
    if first == "broad":
        return "broadcast"
    return f"{first}_{re.sub('[-_ ]', '', second).replace('toall', 'to_all')}"
