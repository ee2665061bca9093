"""Steps on several CPU devices of one process, each after the one before."""

from collections.abc import Callable
from typing import Any

import jax
from jax.core import Tracer
from jax.sharding import Mesh


class Paced:
    """A compiled step that is not started before its last run has ended.

    JAX hands steps to devices ahead of time. XLA's CPU client runs all devices of a
    process on one pool of threads, as many as there are cores or devices, and a thread
    that waits in a collective is held: where steps run ahead, those that have arrived
    can hold all threads, and the others never come. After 40 s XLA ends the process.
    One step at a time has the threads that it needs.

    It has what a function from `jax.jit` has: `lower`, `trace`, `eval_shape`.
    """

    def __init__(self, run: Callable[..., Any]):
        self._run = run
        self._last: jax.Array | None = None
        self.__wrapped__ = run
        self.__name__ = getattr(run, "__name__", type(self).__name__)

    def __call__(self, *args: Any) -> Any:
        """The step, once what it was started with before is there."""
        leaves = jax.tree.leaves(args)
        if any(isinstance(leaf, Tracer) for leaf in leaves):
            return self._run(*args)
        if self._last is not None and not self._last.is_deleted():
            self._last.block_until_ready()
        # whoever ran something else in between hands on what that has not finished yet
        jax.block_until_ready([x for x in leaves if isinstance(x, jax.Array)])
        found = self._run(*args)
        # all results of a run are there at once: the smallest stands for them
        arrays = [x for x in jax.tree.leaves(found) if isinstance(x, jax.Array)]
        self._last = min(arrays, key=lambda x: x.size, default=None)
        return found

    def __getattr__(self, name: str) -> Any:
        """What else the compiled function has."""
        if name.startswith("__"):  # a copy asks for those before it has any attribute
            raise AttributeError(name)
        return getattr(self.__wrapped__, name)


def paced(run: Callable[..., Any], mesh: Mesh | None) -> Callable[..., Any]:
    """A compiled step, paced where this process has several CPU devices of a mesh."""
    here = [] if mesh is None else list(mesh.local_devices)
    if len(here) > 1 and here[0].platform == "cpu":
        return Paced(run)
    return run
