"""The table of means over workers: known figures, and that it is written."""

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments.common import vectors
from experiments.common.tables import read_csv
from experiments.levels.vectors import of_workers
from tests.lib.helpers import compiling_plainly
from tests.lib.programs import imported


@pytest.fixture
def program():
    with imported("experiments.levels.workers") as found, compiling_plainly():
        yield found


def test_errors_and_gains_are_those_of_theory(program):
    """Normal coordinates, one bucket's worth of known values: K = 3.

    Fractions nearly uniform: 1 / (1 - 2 (K + 1) (K - 1) / (4 K^2)) = 1.8 at K = 3 for
    correlated rounding, and K for equal vectors; 1.6 to 1.8 at 2 bits, and more by
    levels (quotients of an independent simulation in float64, to 5 %).
    """
    normal = program.drawn("normal", 3, 2**14, equal=False)
    four, two = (program.row_of("normal", normal, bits) for bits in (4, 2))
    np.testing.assert_allclose(four["uniform"], 0.0399 / 3, rtol=0.05)
    np.testing.assert_allclose(four["correlated"], 1.8, rtol=0.05)
    np.testing.assert_allclose(four["adaptive"], 3.1, rtol=0.05)
    np.testing.assert_allclose(four["narrow"], 3.8, rtol=0.05)
    np.testing.assert_allclose(two["uniform"], 1.72 / 3, rtol=0.05)
    np.testing.assert_allclose(two["correlated"], 1.6, rtol=0.05)
    np.testing.assert_allclose(two["adaptive"], 4.3, rtol=0.05)
    np.testing.assert_allclose(two["narrow"], 5.7, rtol=0.05)
    np.testing.assert_allclose(four["dithered"], 3.6, rtol=0.05)
    np.testing.assert_allclose(two["dithered"], 6.4, rtol=0.05)
    equal = program.drawn("normal", 3, 2**14, equal=True)
    equal = program.row_of("normal", equal, 4)
    np.testing.assert_allclose(equal["correlated"], 3, rtol=0.05)
    np.testing.assert_allclose(equal["adaptive"], 5.7, rtol=0.05)


def test_the_program_writes_its_table(program, tmp_path, capsys):
    arguments = ["--workers=2", "--bits=2", "--size=256", f"--output={tmp_path}"]
    with flagsaver.flagsaver():
        flags.FLAGS.unparse_flags()
        flags.FLAGS(["workers", *arguments])
        program.main(["workers"])
    rows = read_csv(tmp_path / "workers.csv")
    assert len(rows) == 4
    assert [row["vectors"] for row in rows[:2]] == ["normal, unlike", "normal, equal"]
    assert "correlated" in capsys.readouterr().out


def test_recorded_vectors_of_several_workers_are_measured(program, tmp_path, capsys):
    rng = np.random.default_rng(0)
    trees = [{"w": rng.normal(size=(64, 64)), "bias": np.ones(3)} for _ in range(3)]
    folder = tmp_path / "vectors"
    vectors.write(trees.__getitem__, range(3), folder / "000001.npz")
    with flagsaver.flagsaver():
        flags.FLAGS.unparse_flags()
        flags.FLAGS(["workers", "--bits=2", f"--vectors={folder}"])
        program.main(["workers"])
    printed = capsys.readouterr().out.split("\n")
    assert printed[1].split()[:3] == ["000001", "3", "2"]
    np.savez(folder / "000002.npz", w=np.ones((64, 64)))
    with pytest.raises(ValueError, match="vectors must be those of several workers"):
        of_workers(str(folder))
