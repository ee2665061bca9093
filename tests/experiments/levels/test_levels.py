"""The table of levels: its methods on small vectors, its figures, and its refusals."""

import math

import numpy as np
import pytest
from absl import app, flags
from absl.testing import flagsaver

from experiments.common.tables import read_csv
from experiments.levels import measure, methods, vectors
from tests.lib.helpers import compiling_plainly
from tests.lib.programs import imported

OF = methods.Setting(3, math.inf, 64)


@pytest.fixture(autouse=True)
def _cheaply():
    with compiling_plainly():
        yield


@pytest.fixture
def run():
    """The program with these flags, which it leaves to no other one."""

    def run(*arguments):
        with imported("experiments.levels.__main__") as program, flagsaver.flagsaver():
            flags.FLAGS.unparse_flags()
            flags.FLAGS(["levels", *arguments])
            program.main(["levels"])

    return run


@pytest.fixture(scope="module")
def vector():
    rng = np.random.default_rng(0)
    scales = {"small": 10.0, "large": 1.0, "wide": 0.2}
    sizes = {"small": 256, "large": 6144, "wide": 12288}
    return {
        name: (scales[name] * rng.standard_t(4, size=size)).astype(np.float32)
        for name, size in sizes.items()
    }


@pytest.fixture(scope="module")
def earlier(vector):
    """The same network's vector when its leaves had each other's scales."""
    scales = {"small": 0.02, "large": 1.0, "wide": 50.0}
    return {name: np.float32(scales[name]) * x for name, x in vector.items()}


DEAR = ("adaptive by normal law", "adaptive signed")
"""To compile; that they are what they say is tested in `tests/adapt`."""


@pytest.fixture(scope="module")
def found(vector, earlier):
    """What is measured of each method, but for those that are dear."""
    with compiling_plainly():
        rows = {}
        for name in methods.NAMES:
            if name in DEAR:
                continue
            exchange = methods.exchange(name, OF, vector, earlier)
            assert exchange is not None, name
            rows[name] = measure.measure(exchange, vector)
    return rows


def test_what_is_better_errs_less(found):
    error = {name: row["error"] for name, row in found.items()}
    assert error["adaptive"] == pytest.approx(error["optimal"], rel=0.02)
    assert error["adaptive with zero"] == pytest.approx(
        error["optimal with zero"], rel=0.02
    )
    assert error["adaptive"] < error["adaptive with zero"] < error["uniform"]
    assert error["optimal per leaf"] < 1.01 * error["optimal"]
    assert error["adaptive with zero"] < 1.01 * error["amq"]
    assert error["adaptive planned"] < error["uniform planned"] < error["uniform"]
    assert error["adaptive by size"] < error["uniform by size"] < error["uniform"]
    assert error["dithered"] < error["adaptive"] / 1.5
    assert error["dithered planned"] < error["adaptive planned"]
    for base in ("uniform", "adaptive", "dithered"):
        now, once = (error[f"{base} planned{end}"] for end in ("", " once"))
        assert 2 * now < once, "a plan for other scales is as good"


def test_bits_and_predictions(found):
    for name, row in found.items():
        assert row["entropy"] <= row["huffman"] * 1.001, name  # its header apart
        assert row["entropy"] + 1 == pytest.approx(row["bound"]), name
        if row["predicted"] is not None:
            assert row["predicted"] == pytest.approx(row["error"], rel=0.02), name
        if "planned" in name:
            assert row["bits"] <= found["uniform"]["bits"]
    assert found["uniform"]["bits"] == pytest.approx(3 + 32 / 64, rel=0.01)


@pytest.mark.quick
def test_dear_methods_are_quantizers_too():
    for name in DEAR:
        quantizer = methods.QUANTIZERS[name](OF)
        assert (quantizer.bits, quantizer.bucket_size) == (3, 64)


def test_there_is_no_method_where_nothing_is_free(vector):
    two = OF._replace(bits=2)
    assert methods.exchange("adaptive with zero", two, vector) is None
    assert methods.exchange("adaptive", two._replace(bits=1), vector) is None
    assert methods.exchange("min_max", two._replace(norm=2), vector) is None
    assert methods.exchange("uniform by size", OF._replace(bits=8), vector) is None
    assert methods.exchange("uniform by size", OF, {"all": vector["large"]}) is None
    assert methods.exchange("uniform planned once", OF, vector) is None


def test_the_program_writes_its_table_and_its_figure(run, tmp_path, monkeypatch):
    monkeypatch.setattr(vectors, "LEAVES", {"input": 1536, "wide": 9000, "norm": 64})
    kernel = np.random.default_rng(0).normal(size=(64, 32)).astype("f4")
    for name, scale in (("000003", 1), ("000005", 9)):
        np.savez(tmp_path / f"{name}.npz", kernel=scale * kernel, bias=np.ones(9))
    run(
        "--laws=network", "--bits=2", f"--vectors={tmp_path}",
        "--methods=min_max,uniform planned once", f"--output={tmp_path / 'out'}",
    )  # fmt: skip
    table = read_csv(tmp_path / "out" / "levels.csv")
    assert [(row["vector"], row["method"]) for row in table] == [
        ("network", "uniform"),
        ("network", "min_max"),
        ("000003", "uniform"),
        ("000003", "min_max"),
        ("000005", "uniform"),
        ("000005", "min_max"),
        ("000005", "uniform planned once"),
    ]
    assert float(table[0]["gain"]) == 1
    np.savez(tmp_path / "000007.npz", kernel=kernel.T, bias=np.ones(9))
    with pytest.raises(app.UsageError, match="other leaves in 000007"):
        run("--laws=none", f"--vectors={tmp_path}", "--bits=2")
    assert (tmp_path / "out" / "levels.png").exists()


@pytest.mark.quick
def test_laws_differ_and_are_drawn_again_alike():
    drawn = [vectors.drawn(law, 0) for law in vectors.LAWS]
    kurtosis = [
        np.mean(x["wide"] ** 4) / np.mean(x["wide"] ** 2) ** 2 for x in drawn[:3]
    ]
    assert kurtosis[0] == pytest.approx(3, rel=0.05)
    assert kurtosis[1] == pytest.approx(6, rel=0.1)
    assert kurtosis[2] > 9
    again = vectors.drawn("network", 0)
    np.testing.assert_array_equal(drawn[3]["wide"], again["wide"])


@pytest.mark.quick
def test_folders_without_vectors_are_refused(run, tmp_path):
    with pytest.raises(ValueError, match="vectors must be a folder with"):
        vectors.recorded(str(tmp_path))
    (tmp_path / "1.npz").write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"vectors must be \.npz files of arrays"):
        vectors.recorded(str(tmp_path))
    with pytest.raises(app.UsageError, match=r"vectors must be \.npz files"):
        run("--laws=none", f"--vectors={tmp_path}", "--bits=2")
