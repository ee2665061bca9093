"""A folder of a set that was left half written is named, not its parser's error."""

import pytest

from experiments.cifar10_gan.data.tfds_sets import load_tfds

pytest.importorskip("tensorflow_datasets", reason="it is in the extra `experiments`")


@pytest.mark.parametrize("by_folder", [False, True], ids=["by name", "by folder"])
@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"name": 3}', '{"name": "cifar10"}', "\x00\x01"]
)
def test_a_damaged_dataset_info_is_named(tmp_path, text, by_folder):
    folder = tmp_path / "cifar10" / "3.0.2"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(text)
    source = str(folder) if by_folder else "cifar10"
    message = r"must have a whole dataset_info\.json below .*; remove the set's folder"
    with pytest.raises(ValueError, match=message):
        load_tfds(source, "train", data_dir=tmp_path)
