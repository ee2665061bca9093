"""What several tests need: meshes, oracles that differ between workers, error bars."""

import contextlib
import os

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh

AXIS = "data"


PLAIN = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_parallel_codegen_split_count": 1,
}
_FULL = {
    "xla_backend_optimization_level": 3,
    "xla_llvm_disable_expensive_passes": False,
    "xla_cpu_parallel_codegen_split_count": 32,
}
if jax.__version_info__ < (0, 11):  # XLA ends the process at a flag it does not know
    PLAIN["xla_cpu_use_fusion_emitters"] = False
    _FULL["xla_cpu_use_fusion_emitters"] = True
_GIVEN = os.environ.get("XLA_FLAGS", "")


def xla_flags(*, plain: bool) -> str:
    """XLA_FLAGS; `xla_flags_reset` makes XLA read them at every compilation.

    The last one of a name counts: a worker of pytest-xdist is given its parent's.
    """
    flags = {"xla_flags_reset": True, **(PLAIN if plain else _FULL)}
    texts = [f"--{name}={str(value).lower()}" for name, value in flags.items()]
    return " ".join([_GIVEN, *texts])


def plainly_compiled(**variables: str) -> dict[str, str]:
    """The environment of programs that XLA compiles in a third of the time.

    For programs whose compiling takes longer than their run, where speed is no claim.
    """
    return {**os.environ, "XLA_FLAGS": xla_flags(plain=True), **variables}


@contextlib.contextmanager
def compiling_plainly():
    """What XLA compiles inside, it compiles without most optimizations."""
    before = os.environ["XLA_FLAGS"]
    os.environ["XLA_FLAGS"] = xla_flags(plain=True)
    try:
        yield
    finally:
        os.environ["XLA_FLAGS"] = before


def mesh_of(workers: int) -> Mesh:
    """A mesh of simulated devices with one axis over workers."""
    return jax.make_mesh(
        (workers,), (AXIS,), (AxisType.Auto,), devices=jax.devices()[:workers]
    )


def vectors(workers: int, size: int, seed: int = 0, dtype=np.float32) -> np.ndarray:
    """A different vector for every worker, shape (workers, size)."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(workers, size)).astype(dtype)


def assert_trees_identical(actual, expected, message: str) -> None:
    """Equality of every bit of every leaf."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected), message
    paths = jax.tree_util.tree_leaves_with_path(actual)
    for (path, a), b in zip(paths, jax.tree.leaves(expected), strict=True):
        if jnp.issubdtype(jnp.asarray(a).dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        where = f"{message} at {jax.tree_util.keystr(path)}"
        np.testing.assert_array_equal(
            np.asarray(a).view(np.uint8) if np.ndim(a) else np.asarray(a),
            np.asarray(b).view(np.uint8) if np.ndim(b) else np.asarray(b),
            err_msg=where,
        )


def within_5_sigma(mean, expected, standard_error, message: str) -> None:
    """Every entry of a sample mean lies within 5 standard errors of its expectation."""
    mean, expected = np.asarray(mean, np.float64), np.asarray(expected, np.float64)
    bar = 5 * np.asarray(standard_error, np.float64) + 1e-12
    off = np.abs(mean - expected) / bar
    assert np.all(off <= 1), (
        f"{message}: worst of {off.size} means is {5 * off.max():.1f} standard errors "
        "from its expectation"
    )


@contextlib.contextmanager
def promised(what):
    """Whatever is raised inside breaks the promise."""
    try:
        yield
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error


def traced(run):
    """Runs it for each of two workers, abstractly."""
    return jax.eval_shape(jax.vmap(lambda _: run(), axis_name=AXIS), np.zeros(2))


def over_workers(run, workers=2):
    """run(k) on every worker k, worker 0's results."""
    mapped = jax.jit(jax.vmap(run, axis_name=AXIS))
    return jax.tree.map(lambda x: x[0], mapped(jnp.arange(workers)))
