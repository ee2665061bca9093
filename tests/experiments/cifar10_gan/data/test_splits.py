"""Which pictures are held out, whatever names a source has for its splits."""

import numpy as np
import pytest

from experiments.cifar10_gan.data.splits import Part, choose_part, choose_rows


@pytest.mark.parametrize(
    ("available", "train", "test"),
    [
        (("train", "test"), ("train", "all"), ("test", "all")),
        (("test", "train", "validation"), ("train", "all"), ("test", "all")),
        (("train", "validation"), ("train", "all"), ("validation", "all")),
        (("train", "val"), ("train", "all"), ("val", "all")),
        (("train",), ("train", "kept"), ("train", "held out")),
        (("train", "extra"), ("train", "kept"), ("train", "held out")),
        ((), ("", "kept"), ("", "held out")),
    ],
)
def test_parts(available, train, test):
    assert choose_part(available, "train", "set") == train
    assert choose_part(available, "test", "set") == test
    for name in set(available) - {"train", "test"}:
        assert choose_part(available, name, "set") == (name, "all")


@pytest.mark.parametrize(
    ("available", "split", "text"),
    [
        (("test",), "train", r"split of 'set' must be one of \['test'\], got 'train'"),
        (("a", "b"), "test", r"one of \['a', 'b'\], got 'test'; use 'a'"),
        (("train",), "validation", r"one of \['train'\], got 'validation'"),
        ((), "val", r"one of \['train', 'test'\], got 'val'; use 'train'"),
    ],
)
def test_missing_parts(available, split, text):
    with pytest.raises(ValueError, match=text):
        choose_part(available, split, "set")


def test_every_tenth_is_held_out():
    kept = choose_rows(23, Part("train", "kept"), None, "set")
    held = choose_rows(23, Part("train", "held out"), None, "set")
    assert held.tolist() == [0, 10, 20]
    assert sorted([*kept, *held]) == list(range(23)), "each is in one of the two"
    assert choose_rows(3, Part("x", "all"), None, "set").tolist() == [0, 1, 2]
    assert choose_rows(23, Part("", "kept"), 4, "set").tolist() == [1, 2, 3, 4]


def test_too_few():
    with pytest.raises(ValueError, match=r"'set' \(train\) must hold 2 or more, got 1"):
        choose_rows(1, Part("train", "kept"), None, "set")
    with pytest.raises(ValueError, match=r"'set' must hold a picture or more, got 0"):
        choose_rows(0, Part("", "all"), None, "set")
    text = r"the 3 pictures of 'set' \(train\) \(held out of 23\), got 4; leave it out"
    with pytest.raises(ValueError, match=text):
        choose_rows(23, Part("train", "held out"), 4, "set")
    assert np.array_equal(choose_rows(1, Part("", "held out"), 1, "set"), [0])
