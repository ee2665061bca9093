"""Vectors in files: leaves by their keys, other workers in a folder beside."""

import numpy as np
import pytest

from experiments.common import vectors

pytestmark = pytest.mark.quick


def test_the_first_workers_file_and_those_of_others(tmp_path):
    trees = [{"a": np.full(2, k), "b": {"c": np.full(3, -k)}} for k in range(3)]
    first = vectors.write(trees.__getitem__, range(3), tmp_path / "000007.npz")
    np.testing.assert_array_equal(first["a"], [0, 0])
    paths = [tmp_path / "000007.npz"]
    paths += [tmp_path / vectors.OTHERS / f"000007-{k}.npz" for k in (1, 2)]
    for k, path in enumerate(paths):
        with np.load(path) as file:
            assert sorted(file.files) == ["a", "b/c"]
            np.testing.assert_array_equal(file["a"], np.full(2, k))
    assert len(list(tmp_path.rglob("*.npz"))) == 3


def test_of_one_worker_there_is_no_folder(tmp_path):
    vectors.write(lambda _: {"a": np.ones(2)}, [0], tmp_path / "x.npz")
    assert [path.name for path in tmp_path.rglob("*")] == ["x.npz"]
