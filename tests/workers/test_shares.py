"""What of a step's arguments each worker gets."""

import pytest

from qgenx_jax._workers.shares import of_all

pytestmark = pytest.mark.quick


def loss(params, x, table, scale=1.0):
    return params, x, table, scale


@pytest.mark.parametrize(
    ("replicated", "count", "keywords", "found"),
    [
        (("table",), 3, {}, {2}),
        (("table",), 2, {"table": 0}, {"table"}),
        ((2,), 2, {"table": 0}, {"table"}),
        ((2,), 3, {}, {2}),
        ((-1,), 3, {}, {2}),
        (("scale", "table"), 3, {"scale": 2.0}, {"scale", 2}),
    ],
)
def test_what_is_whole_by_number_or_by_name(replicated, count, keywords, found):
    assert of_all(loss, replicated, count, keywords) == found


@pytest.mark.parametrize(
    ("replicated", "message"),
    [
        (("tabel",), r"replicated must name arguments.*'tabel'.*'table'"),
        (("scale",), "replicated must name arguments that the loss is given"),
        ((7,), "replicated must be a whole number from -3 to 2"),
    ],
)
def test_names_that_are_none(replicated, message):
    with pytest.raises(ValueError, match=message):
        of_all(loss, replicated, 3, {})
