"""Sets of TensorFlow Datasets: the real CIFAR-10, and small ones made here."""

import importlib.util
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.cifar10_gan.data.fitting import fit_array
from experiments.cifar10_gan.data.sources import load_pictures

pytestmark = [
    # TensorFlow's own modules warn while they are imported.
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow_datasets") is None,
        reason="tensorflow-datasets is not here",
    ),
]


def noise(*shape, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def prepare(data_dir, name, splits, *, config=None, feature="image", **others):
    """Writes a set of pictures, and of masks beside them if `others` says so."""
    import tensorflow_datasets as tfds

    arrays = [array for arrays in splits.values() for array in arrays]
    sizes = {array.shape for array in arrays}
    one_size = len(sizes) == 1
    shape = arrays[0].shape if one_size else (None, None, arrays[0].shape[-1])
    image = tfds.features.Image(
        shape=shape, dtype=arrays[0].dtype, encoding_format="png"
    )
    features = {feature: image, "label": np.int64, **others}

    def example(index, array):
        return {feature: array, "label": index, **dict.fromkeys(others, array)}

    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.2.0",
        config=config,
        data_dir=data_dir,
        features=tfds.features.FeaturesDict(features),
        split_datasets={
            split: [(i, example(i, array)) for i, array in enumerate(arrays)]
            for split, arrays in splits.items()
        },
        disable_shuffling=True,
    )


def test_real_cifar10():
    import tensorflow_datasets as tfds

    builder = tfds.builder("cifar10", try_gcs=False)
    if not Path(str(builder.data_dir)).is_dir():
        pytest.skip("cifar10 is not prepared here")
    pictures = load_pictures("cifar10", "test", size=100)
    assert pictures.shape == (100, 32, 32, 3)
    assert 80 < pictures.mean() < 160, "natural pictures are neither black nor white"
    files = builder.as_dataset(
        split="test", decoders={"image": tfds.decode.SkipDecoding()}
    )
    for picture, file in zip(pictures[:20], files.take(20), strict=True):
        expected = np.asarray(Image.open(io.BytesIO(file["image"].numpy())))
        assert np.array_equal(picture, expected), "not what Pillow reads in the file"
    with pytest.raises(ValueError, match=r"one of .*'train', 'test'.* got 'val'"):
        load_pictures("cifar10", "val")
    with pytest.raises(ValueError, match=r"'name:version' .* got 'cifar10:9\.9\.9' .*"):
        load_pictures("cifar10:9.9.9")


def test_names(tmp_path, monkeypatch):
    """Configurations, versions and folders of prepared sets; what is not there."""
    pictures = noise(12, 32, 32, 3)
    prepare(tmp_path, "tiny", {"train": pictures}, config="some")
    prepare(tmp_path, "tinier", {"train": pictures[:3], "validation": pictures[3:]})
    folder = str(tmp_path / "tiny" / "some" / "1.2.0")
    for name in ("tiny/some", "tiny/some:1.2.0", folder):
        train = load_pictures(name, "train", data_dir=tmp_path)
        test = load_pictures(name, "test", data_dir=os.fspath(tmp_path))
        assert np.array_equal(test, pictures[[0, 10]]), f"{name}: held out of train"
        assert np.array_equal(train, pictures[[*range(1, 10), 11]]), name
    for name in ("tinier", "tinier:1.2.0"):
        test = load_pictures(name, "test", data_dir=tmp_path)
        assert np.array_equal(test, pictures[3:]), f"{name}: validation stands in"
        assert len(load_pictures(name, "train", data_dir=tmp_path)) == 3

    def refused(text, name, split="train", **given):
        with pytest.raises(ValueError, match=text):
            load_pictures(name, split, data_dir=tmp_path, **given)

    refused(r"at most the 10 pictures of 'tiny/some'", "tiny/some", size=11)
    refused(r"one of \['train'\], got 'extra'; use", "tiny/some", "extra")
    refused(r"source must be .* got 'no_such_set'; use 'cifar10'", "no_such_set")
    refused(r"'name:version' of a set .* got 'no set' .*; use 'cifar10'", "no set")
    refused("must be prepared, got no data in .*; run", "cifar10")
    shard = next((tmp_path / "tinier").rglob("*train*tfrecord*"))
    shard.write_bytes(shard.read_bytes()[:5000])
    refused("'tinier' must be readable, got DataLossError.* prepare", "tinier")


@pytest.mark.parametrize(
    "text", [b"{", b"", b"[]", b"null", b'{"splits": 3}', b"\xff\xfe"]
)
def test_a_damaged_dataset_info_is_named(tmp_path, text):
    """Cut off, empty, of another type, no text: by name as by folder."""
    folder = tmp_path / "cifar10" / "3.0.2"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_bytes(text)
    for source in ("cifar10", str(folder)):
        with pytest.raises(
            ValueError, match=r"must have its dataset_info\.json, .*rem"
        ):
            load_pictures(source, data_dir=tmp_path)


def test_pictures_of_other_sizes_and_depths(tmp_path):
    sets = {
        "grey": [noise(28, 28, 1, seed=i) for i in range(3)],
        "ragged": [noise(40 + 3 * i, 60 - 7 * i, 3, seed=i) for i in range(3)],
        "alpha": [noise(32, 32, 4, seed=i) for i in range(3)],
        "deep": [noise(32, 32, 1, dtype=np.uint16, seed=i) for i in range(3)],
    }
    for name, arrays in sets.items():
        prepare(tmp_path, name, {"train": arrays, "test": arrays[:1]}, feature="x")
        got = load_pictures(name, "train", data_dir=tmp_path)
        expected = [fit_array(array) for array in arrays]
        assert np.array_equal(got, expected), name


def test_which_feature_is_the_picture(tmp_path):
    import tensorflow_datasets as tfds

    pictures = list(noise(4, 32, 32, 3))
    splits = {"train": pictures, "test": pictures}
    mask = tfds.features.Image(shape=(32, 32, 3))
    prepare(tmp_path, "masked", splits, mask=mask)
    got = load_pictures("masked", "train", data_dir=tmp_path)
    assert np.array_equal(got, pictures)
    prepare(tmp_path, "two", splits, feature="left", right=mask)
    with pytest.raises(ValueError, match="must have a feature 'image', or a single"):
        load_pictures("two", data_dir=tmp_path)
    floats = [np.zeros((4, 4, 1), np.float32)] * 2
    prepare(tmp_path, "floats", {"train": floats, "test": floats})
    with pytest.raises(ValueError, match="pictures of uint8 or uint16, got float32"):
        load_pictures("floats", data_dir=tmp_path)
