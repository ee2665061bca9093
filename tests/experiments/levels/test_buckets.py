"""The table of buckets: known gains, a rotation that keeps lengths, what is refused."""

import numpy as np
import pytest
from absl import app, flags
from absl.testing import flagsaver

from experiments.common.tables import read_csv
from tests.lib.programs import imported


@pytest.fixture
def program():
    with imported("experiments.levels.buckets") as found:
        yield found


def run(program, *arguments):
    with flagsaver.flagsaver():
        flags.FLAGS.unparse_flags()
        flags.FLAGS(["buckets", *arguments])
        program.main(["buckets"])


def test_gains_on_normal_coordinates(program):
    """3.5 times less than uniform at 4 bits, and smaller buckets pay for themselves."""
    flat = np.random.default_rng(0).standard_normal(2**16).astype("f4")
    row = program.row_of("normal", flat, 4, rotate=False)
    np.testing.assert_allclose(row["uniform"], 0.0399, rtol=0.05)
    np.testing.assert_allclose(row["1024, 32"], 3.5, rtol=0.05)
    assert row["1024, 32"] < row["512, 16"] < row["128, 16"] * 1.1


def test_rotations_keep_lengths_and_make_tails_normal(program):
    flat = np.random.default_rng(1).standard_t(3, 2**14).astype("f4")
    turned = program.rotated(flat, 256)
    lengths = [np.linalg.norm(x.reshape(-1, 256), axis=1) for x in (flat, turned)]
    np.testing.assert_allclose(*lengths, rtol=1e-5)
    rows = [program.row_of("t", flat, 4, rotate=x)["1024, 32"] for x in (False, True)]
    assert rows[1] > 1.5 * rows[0]
    again = program.row_of("t", turned, 4, rotate=False)["256, 16"]
    found = program.row_of("t", flat, 4, rotate=True)["256, 16"]
    base = [program.row_of("t", x, 4, rotate=False)["uniform"] for x in (flat, turned)]
    # the library's rotation is worth what one by other signs is, in NumPy
    np.testing.assert_allclose(found / base[0], again / base[1], rtol=0.05)


def test_vectors_of_laws(program, capsys):
    run(program, "--laws=sparse,one", "--bits=4", "--rotate")
    assert "sparse" in capsys.readouterr().out
    sparse, one = program.drawn("sparse"), program.drawn("one")
    assert abs((sparse != 0).mean() - 0.05) < 0.005
    assert ((one.reshape(-1, 1024) != 0).sum(axis=1) == 1).all()
    with pytest.raises(app.UsageError, match="--laws must list"):
        run(program, "--laws=other")


def test_the_command_writes_its_table(program, tmp_path, capsys):
    np.savez(tmp_path / "000001.npz", w=np.ones((64, 64), "f4"), bias=np.ones(3))
    run(program, f"--vectors={tmp_path}", "--bits=2", f"--output={tmp_path / 'out'}")
    (row,) = read_csv(tmp_path / "out" / "buckets.csv")
    assert row["vector"] == "000001"
    assert "256, 16" in capsys.readouterr().out
    with pytest.raises(app.UsageError, match="--vectors must be a folder"):
        run(program, f"--vectors={tmp_path / 'nothing'}")
