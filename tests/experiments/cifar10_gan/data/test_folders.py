"""Folders of pictures: order, splits, formats, and files that are no pictures."""

import numpy as np
import pytest
from PIL import Image

from experiments.cifar10_gan.data.folders import (
    list_pictures,
    load_folder,
    read_picture,
)


def save(path, colour, size=(32, 32), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)


def numbers(pictures):
    """The red of each picture, as `save` was given it."""
    return pictures[:, 16, 16, 0].tolist()


def test_order_is_that_of_path_parts(tmp_path):
    # With "/" as a character, a-b/ would come before a/.
    names = ["B.PNG", "a/2.png", "a/10.bmp", "a/c/1.png", "a-b/1.webp", "z.jpeg"]
    for number, name in enumerate(names):
        save(tmp_path / name, (number * 20, 0, 0))
    for other in (".hidden.png", "._a.png", ".git/x.png", "labels.csv", "a/notes"):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_text("no picture")
    got = [path.relative_to(tmp_path).as_posix() for path in list_pictures(tmp_path)]
    expected = ["B.PNG", "a/10.bmp", "a/2.png", "a/c/1.png", "a-b/1.webp", "z.jpeg"]
    assert got == expected


def test_held_out_without_subfolders(tmp_path):
    for number in range(23):
        save(tmp_path / f"class{number % 2}" / f"{number:02d}.png", (number, 0, 0))
    order = [*range(0, 23, 2), *range(1, 23, 2)]
    test, train = load_folder(tmp_path, "test"), load_folder(tmp_path, "train")
    assert numbers(test) == order[::10]
    assert numbers(train) == [n for n in order if n not in order[::10]]
    assert numbers(load_folder(tmp_path, "train", size=2)) == numbers(train)[:2]


def test_subfolders_are_splits(tmp_path):
    for number in range(3):
        save(tmp_path / "train" / f"{number}.png", (number, 0, 0))
    assert numbers(load_folder(tmp_path, "test")) == [0], "held out of train/"
    assert numbers(load_folder(tmp_path, "train")) == [1, 2]
    save(tmp_path / "val" / "x" / "a.png", (50, 0, 0))
    assert numbers(load_folder(tmp_path, "test")) == [50], "val/ stands in"
    assert numbers(load_folder(tmp_path, "train")) == [0, 1, 2], "all, now"
    save(tmp_path / "test" / "a.png", (60, 0, 0))
    assert numbers(load_folder(tmp_path, "test")) == [60]
    assert numbers(load_folder(tmp_path, "val")) == [50]


def test_lossless_files_of_the_size_are_unchanged(tmp_path):
    pictures = np.random.default_rng(2).integers(0, 256, (3, 32, 32, 3), np.uint8)
    for picture, name in zip(pictures, ["a.png", "b.bmp", "c.webp"], strict=True):
        Image.fromarray(picture).save(tmp_path / name, lossless=True)
        assert np.array_equal(read_picture(tmp_path / name), picture), name


def test_large_jpeg_grey_and_turned(tmp_path):
    save(tmp_path / "large.jpg", (200, 100, 50), (1600, 1200), quality=95)
    got = read_picture(tmp_path / "large.jpg").astype(int)
    assert got.shape == (32, 32, 3)
    assert np.abs(got - (200, 100, 50)).max() <= 3
    Image.new("L", (40, 30), 90).save(tmp_path / "grey.jpg")
    assert np.abs(read_picture(tmp_path / "grey.jpg").astype(int) - 90).max() <= 1
    # EXIF 6: the camera was turned, and the picture's right edge is its lower one.
    turned = Image.new("RGB", (32, 32))
    turned.paste((255, 255, 255), (16, 0, 32, 32))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    got = read_picture(tmp_path / "turned.png")
    assert got[16:].min() == 255
    assert got[:16].max() == 0


def test_a_broken_file_is_named(tmp_path):
    for number in range(12):
        save(tmp_path / f"{number:02d}.png", (number, 0, 0), (60, 60))
    whole = (tmp_path / "07.png").read_bytes()
    for broken in (b"", b"no picture", whole[: len(whole) // 2], whole[:20]):
        (tmp_path / "07.png").write_bytes(broken)
        text = r"picture '.*07\.png' must be a whole, readable picture, got \w+"
        with pytest.raises(ValueError, match=text):
            load_folder(tmp_path, "train")
        assert len(load_folder(tmp_path, "test")) == 2, "0 and 10 are whole"


def test_a_truncated_jpeg_is_named(tmp_path):
    noise = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(ValueError, match=r"a\.jpg' must be .* OSError: .*truncated"):
        read_picture(tmp_path / "a.jpg")


def test_folders_without_pictures(tmp_path):
    with pytest.raises(ValueError, match=r"must hold pictures .* got no files"):
        load_folder(tmp_path, "train")
    for name in ("a.gif", "b.gif", "readme"):
        (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match=r"got 2 with \.gif, 1 with no suffix"):
        load_folder(tmp_path, "train")
    save(tmp_path / "test" / "a.png", (0, 0, 0))
    with pytest.raises(ValueError, match="must have a subfolder train/ beside test/"):
        load_folder(tmp_path, "test")


def test_sizes_and_splits_that_are_not_there(tmp_path):
    save(tmp_path / "a.png", (0, 0, 0))
    with pytest.raises(ValueError, match="must hold 2 or more, got 1"):
        load_folder(tmp_path, "train")
    save(tmp_path / "b.png", (0, 0, 0))
    with pytest.raises(ValueError, match=r"at most the 1 pictures .* got 2"):
        load_folder(tmp_path, "train", size=2)
    with pytest.raises(ValueError, match=r"one of \['train', 'test'\], got 'val'"):
        load_folder(tmp_path, "val")
