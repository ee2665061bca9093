"""The table of means over workers: known figures, and that it is written."""

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments.common.tables import read_csv
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
    of = {"size": 2**14, "equal": False}
    four, two = (
        program.row_of("normal", 3, 4, **of),
        program.row_of("normal", 3, 2, **of),
    )
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
    equal = program.row_of("normal", 3, 4, size=2**14, equal=True)
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
