"""A compiled step, as it is called: what fails in it is told; and steps in order."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
from jax.core import Tracer
from jax.sharding import Mesh

from qgenx_jax._workers.failures import ExchangeError


class Told:
    """A compiled step, whose failures of a collective are told by `ExchangeError`.

    It has what a function from `jax.jit` has: `lower`, `trace`, `eval_shape`.
    """

    def __init__(self, run: Callable[..., Any]):
        self.__wrapped__ = run
        self.__name__ = getattr(run, "__name__", type(self).__name__)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The step."""
        with ExchangeError.naming():
            self._before((args, kwargs))
            found = self.__wrapped__(*args, **kwargs)
            self._after(found)
            return found

    def _before(self, given: Any) -> None:
        """What is waited for, of what it is given."""

    def _after(self, found: Any) -> None:
        """What is remembered of its results."""

    def __getattr__(self, name: str) -> Any:
        """What else the compiled function has."""
        if name.startswith("__"):  # a copy asks for those before it has any attribute
            raise AttributeError(name)
        return getattr(self.__wrapped__, name)


class Paced(Told):
    """A compiled step that starts when all paced steps before it have ended.

    JAX hands steps to devices ahead of time. XLA's CPU client runs all devices of a
    process on one pool of threads, as many as there are cores or devices, and a thread
    that waits in a collective is held: where steps run ahead, those that have arrived
    can hold all threads, and the others never come. After 40 s XLA ends the process.
    One step at a time has the threads that it needs.

    Within another program it is traced as any function, and that program paces itself.
    """

    _last: "jax.Array | None" = None
    """A result of the step that was started last in this process."""

    def _before(self, given: Any) -> None:
        """Until what was started before is there."""
        leaves = jax.tree.leaves(given)
        if not _traced(leaves):
            last, Paced._last = Paced._last, None
            # an error of that step is told to whoever asks for its results
            with contextlib.suppress(Exception):
                if last is not None and not last.is_deleted():
                    last.block_until_ready()
            # what a user's own program makes of them may not have ended, either
            jax.block_until_ready([x for x in leaves if isinstance(x, jax.Array)])

    def _after(self, found: Any) -> None:
        """A result, by which the next step knows that this one has ended."""
        results = [x for x in jax.tree.leaves(found) if isinstance(x, jax.Array)]
        if results and not _traced(results):
            # all results of a run are there at once: the smallest stands for them
            Paced._last = min(results, key=lambda x: x.size)


def _traced(leaves: list[Any]) -> bool:
    return any(isinstance(leaf, Tracer) for leaf in leaves)


def told(run: Callable[..., Any], mesh: Mesh | None) -> Callable[..., Any]:
    """A compiled step, paced where this process has several CPU devices of a mesh.

    Without a mesh nothing travels that could fail.
    """
    if mesh is None:
        return run
    here = list(mesh.local_devices)
    is_paced = len(here) > 1 and here[0].platform == "cpu"
    return Paced(run) if is_paced else Told(run)
