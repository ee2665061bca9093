"""Shares of a batch: by hand, by counting, and the mean that their weights make."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.cifar10_gan.data.batches import Batches
from experiments.cifar10_gan.data.shares import Share
from tests.lib.numbered_pictures import indices, numbered


def test_the_papers_shares():
    share = Share(1024, 3)
    assert [share.count(k) for k in range(3)] == [341, 341, 342]
    assert [share.start(k) for k in range(3)] == [0, 341, 682]
    assert share.rows == 342


@pytest.mark.parametrize(("total", "workers"), [(7, 3), (8, 4), (5, 5), (10, 1)])
def test_each_picture_is_one_workers_and_weighs_the_same(total, workers):
    share = Share(total, workers)
    places = []
    for worker in range(workers):
        weights = np.asarray(share.weights(jnp.int32(worker)))
        assert weights.shape == (share.rows,)
        own = int(np.count_nonzero(weights))
        assert own == share.count(worker)
        np.testing.assert_allclose(weights[:own], workers / total, rtol=1e-6)
        start = int(share.start(jnp.int32(worker)))
        assert start == share.start(worker)
        places += range(start, start + own)
    assert places == list(range(total))


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_the_batch_is_the_same_for_every_number_of_workers(workers):
    pictures = numbered(40)
    whole = Batches(pictures, batch_size=11, seed=3)
    share = Share(11, workers)
    parts = Batches(pictures, batch_size=1, workers=workers, seed=3, share=share)
    assert parts.steps_per_epoch == 3
    for _ in range(5):  # into the second epoch
        expected, found = indices(next(whole))[0], indices(next(parts))
        own = [found[k][: share.count(k)] for k in range(workers)]
        assert list(np.concatenate(own)) == list(expected)
        assert all(set(found[k]) <= set(own[k]) for k in range(workers))


def test_a_position_is_that_of_every_number_of_workers():
    pictures = numbered(40)

    def create(workers):
        share = Share(11, workers)
        return Batches(pictures, batch_size=1, workers=workers, seed=3, share=share)

    three, two = create(3), create(2)
    for _ in range(4):
        next(three)
    two.restore(three.state())
    expected, found = indices(next(three)), indices(next(two))
    assert set(expected.ravel()) == set(found.ravel())
    other = Batches(pictures, batch_size=11, seed=3, share=Share(12, 3), workers=3)
    with pytest.raises(ValueError, match="batch_size 12"):
        other.restore(three.state())


def test_too_few_pictures():
    with pytest.raises(ValueError, match="at most the 40 pictures there are, got 41"):
        Batches(numbered(40), batch_size=1, share=Share(41, 2), workers=2)
