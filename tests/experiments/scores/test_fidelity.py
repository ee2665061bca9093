"""FID and Inception Score: torch-fidelity's own numbers of the same pictures."""

import json
import subprocess
import sys

import numpy as np
import pytest

from experiments.cifar10_gan.data.pictures import draw_pictures
from experiments.scores.fidelity import inception_scores
from experiments.scores.judge import Judge


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of torch-fidelity's Inception network, drawn."""
    fidelity = pytest.importorskip("torch_fidelity", exc_type=Exception)
    torch = pytest.importorskip("torch")
    network = fidelity.feature_extractor_inceptionv3.FeatureExtractorInceptionV3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "load", lambda *_, **__: {})
        patch.setattr(network, "load_state_dict", lambda *_, **__: None)
        torch.manual_seed(0)
        made = network("inception", ["2048"], feature_extractor_weights_path=__file__)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(made.state_dict(), path)
    return str(path)


def test_numbers_are_those_of_its_command(tmp_path, weights):
    from PIL import Image

    sets = {"samples": draw_pictures(24, seed=0), "real": draw_pictures(30, seed=1)}
    for name, pictures in sets.items():
        (tmp_path / name).mkdir()
        for index, picture in enumerate(pictures):
            Image.fromarray(picture).save(tmp_path / name / f"{index:03d}.png")
    command = [
        *("-m", "torch_fidelity.fidelity", "--fid", "--isc", "--json", "--silent"),
        *("--input1", str(tmp_path / "samples"), "--input2", str(tmp_path / "real")),
        *("--cpu", "--no-cache", "--save-cpu-ram"),
        *("--feature-extractor", "inception-v3-compat"),
        *("--feature-extractor-weights-path", weights),
    ]
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout[done.stdout.index("{") :])
    ours = inception_scores(sets["samples"], sets["real"], weights=weights)
    assert ours["fid"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-9)
    assert ours["isc"] == pytest.approx(theirs["inception_score_mean"], rel=1e-9)
    assert ours["isc_error"] == pytest.approx(theirs["inception_score_std"], rel=1e-6)
    judge = Judge(sets["real"], ("fid",), weights=weights)
    assert judge.scores(sets["samples"]) == {"fid": ours["fid"]}


def test_a_file_of_other_weights_is_refused(tmp_path, weights):
    torch = pytest.importorskip("torch")
    path = tmp_path / "other.pth"
    torch.save({"a": torch.zeros(3)}, path)
    pictures = draw_pictures(4, seed=0)
    with pytest.raises(ValueError, match=r"must be those of inception-v3-compat"):
        inception_scores(pictures, pictures, weights=str(path))


def test_errors(tmp_path):
    pictures = draw_pictures(4, seed=0)
    with pytest.raises(ValueError, match=r"samples must be uint8 .* got float64"):
        inception_scores(pictures / 255, pictures)
    with pytest.raises(ValueError, match="real must be at least 2 pictures, got 1"):
        inception_scores(pictures, pictures[:1])
    with pytest.raises(ValueError, match=r"--fid_weights=PATH, or --fid_download"):
        inception_scores(pictures, pictures)


def test_where_it_is_not_installed_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    path = tmp_path / "weights.pth"
    path.touch()
    pictures = np.zeros((4, 8, 8, 3), np.uint8)
    with pytest.raises(ImportError, match=r"pip install 'qgenx_jax\[fid\]'"):
        inception_scores(pictures, pictures, weights=str(path))
