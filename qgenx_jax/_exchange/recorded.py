"""Recorded vectors, on the host, and the variance that quantizers have on them."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from qgenx_jax import _checks, _trees
from qgenx_jax._codec.quantizer import Quantizer
from qgenx_jax.bounds.given_vector import coordinate_variances


class Recorded(NamedTuple):
    """Vectors of one structure, and what their errors are multiplied by.

    Attributes:
        shapes: the tree's shapes and dtypes.
        paths: of its leaves, as `jax.tree_util.keystr` prints them.
        leaves: for each the flat arrays of all vectors, float32 or float64.
        squares: w^2 of each leaf, one number or a flat array.
    """

    shapes: Any
    paths: list[str]
    leaves: list[list[np.ndarray]]
    squares: list[np.ndarray]

    @property
    def sizes(self) -> list[int]:
        """Coordinates of each leaf."""
        return [each[0].size for each in self.leaves]

    @property
    def size(self) -> int:
        """Coordinates of them all."""
        return sum(self.sizes)

    def flats(self, members: Sequence[int]) -> list[np.ndarray]:
        """Of each vector the leaves with these indices, one after the other."""
        several = zip(*(self.leaves[i] for i in members), strict=True)
        return [x[0] if len(x) == 1 else np.concatenate(x) for x in several]

    def variance(self, members: Sequence[int], quantizer: Quantizer | None) -> float:
        """sum_i w_i^2 E (Q(v)_i - v_i)^2 of these leaves as one flat vector.

        The mean over the vectors; 0 without a quantizer.
        """
        if quantizer is None:
            return 0.0
        ends, found = np.cumsum([self.sizes[i] for i in members])[:-1], 0.0
        for flat in self.flats(members):
            each = np.split(coordinate_variances(flat, quantizer), ends)
            found += sum(map(self._weighted, members, each))
        return found / len(self.leaves[0])

    def energy(self, members: Sequence[int]) -> float:
        """sum_i w_i^2 v_i^2 of these leaves, the mean over the vectors."""
        return sum(
            self._weighted(i, np.square(x, dtype=np.float64)) / len(self.leaves[i])
            for i in members
            for x in self.leaves[i]
        )

    def mean_square(self, leaf: int) -> float:
        """Of the coordinates of a leaf, over all vectors; 0 for a leaf without any."""
        squares = [np.sum(np.square(x, dtype=np.float64)) for x in self.leaves[leaf]]
        return float(np.mean(squares)) / max(self.sizes[leaf], 1)

    def is_zero(self, members: Sequence[int]) -> bool:
        """Whether these leaves are zero in all vectors, so that they tell nothing."""
        return not any(x.any() for i in members for x in self.leaves[i])

    def _weighted(self, leaf: int, each: np.ndarray) -> float:
        return float(np.sum(self.squares[leaf] * each))


def recorded(vectors: Sequence[Any], weights: Any) -> Recorded:
    """What is planned for, checked.

    Raises:
        ValueError: if there is no vector or coordinate, vectors are of other
            structures, not real floating point, traced, not finite or all zero, or
            weights are not such, negative, not finite or all zero.
    """
    if not vectors:
        rule, way_out = "must be one dual vector at least", "pass a recorded one"
        raise _checks.refuse("vectors", rule, vectors, way_out)
    for index, tree in enumerate(vectors):
        name = "vectors" if len(vectors) == 1 else f"vectors[{index}]"
        _checks.floating_leaves(name, tree)
        way_out = "record vectors of one model; a list of leaves is one vector"
        _checks.same_structure(name, tree, "the first", vectors[0], way_out)
    first, treedef = jax.tree_util.tree_flatten_with_path(vectors[0])
    names = [_checks.leaf_name(path, "vectors") for path, _ in first]
    each = zip(*map(jax.tree.leaves, vectors), strict=True)
    leaves = [
        [_flat(name, x) for x in same] for name, same in zip(names, each, strict=True)
    ]
    if not any(x[0].size for x in leaves):
        rule, way_out = "must have a coordinate at least", "pass a tree with leaves"
        raise _checks.refuse("vectors", rule, vectors[0], way_out)
    shapes = [jax.ShapeDtypeStruct(np.shape(x), jnp.result_type(x)) for _, x in first]
    paths = [jax.tree_util.keystr(path) for path, _ in first]
    tree = jax.tree.unflatten(treedef, shapes)
    found = Recorded(tree, paths, leaves, _squares(weights, tree))
    everything = range(len(leaves))
    if found.is_zero(everything):
        way_out = "record them after some steps: zeros do not tell leaves apart"
        rule = "must have a coordinate other than zero"
        raise _checks.refuse("vectors", rule, _checks.Text("zeros"), way_out)
    if found.energy(everything) == 0:
        rule = "must be positive for a coordinate other than zero"
        way_out = "leave them out to weigh all alike"
        raise _checks.refuse("weights", rule, _checks.Text("zeros"), way_out)
    return found


def _flat(name: str, x: Any) -> np.ndarray:
    """A leaf as a flat array that is known, wide enough, and finite."""
    dtype = _trees.accumulator_dtype(x)
    found = _known(name, x).reshape(-1).astype(dtype, copy=False)
    if not np.isfinite(found).all():
        rule, way_out = "must be finite", "leave vectors with a NaN or an infinity out"
        what = _checks.Text("a NaN or an infinity")
        raise _checks.refuse(name, rule, what, way_out)
    return found


def _known(name: str, x: Any) -> np.ndarray:
    if isinstance(x, Tracer):
        rule, way_out = "must be known", "plan outside of jit, once, before the steps"
        raise _checks.refuse(name, rule, _checks.Text("a traced array"), way_out)
    return np.asarray(x)


def _squares(weights: Any, tree: Any) -> list[np.ndarray]:
    """w^2 of each leaf of a tree, one number or a flat array."""
    if weights is None:
        return [np.ones(1)] * len(jax.tree.leaves(tree))
    repeat = functools.partial(_repeated, tree)
    try:
        spread = repeat(weights)
    except ValueError as error:
        rule = f"must be a prefix of the vectors' tree, {jax.tree.structure(tree)}"
        way_out = "give a number for every leaf, or for whole subtrees"
        found = _checks.Text(jax.tree.structure(weights))
        raise _checks.refuse("weights", rule, found, way_out) from error
    found = []
    with_path = jax.tree_util.tree_leaves_with_path(tree)
    for w, (path, leaf) in zip(spread, with_path, strict=True):
        name, way_out = _checks.leaf_name(path, "weights"), "for instance 1.0"
        if np.shape(w) not in ((), leaf.shape):
            rule = f"must be a number, or of the vectors' shape {leaf.shape}"
            raise _checks.refuse(name, rule, np.shape(w), way_out)
        known = _known(name, w)
        is_real = known.dtype.kind in "iu" or jnp.issubdtype(known.dtype, jnp.floating)
        wide = known.astype(np.float64) if is_real else np.full(1, np.nan)
        if not (np.isfinite(wide) & (wide >= 0)).all():
            rule = "must be real, finite and at least 0"
            what = w if np.ndim(w) == 0 else _checks.Text("an array with others")
            raise _checks.refuse(name, rule, what, way_out)
        found.append(np.square(wide).reshape(-1))
    return found


def _repeated(tree: Any, prefix: Any) -> list[Any]:
    """A prefix's leaf for each leaf of a tree."""
    found: list[Any] = []
    jax.tree.map(
        lambda x, part: found.extend([x] * len(jax.tree.leaves(part))), prefix, tree
    )
    return found
