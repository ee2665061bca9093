"""Nothing composes to a silent wrong answer: docs/composition.md, cell by cell."""

import pytest

from tests.lib import composition_table, compositions, ways

pytestmark = pytest.mark.usefixtures("compiled_plainly")
OTHER_BY_VMAP = {"conditionally_mask"}  # refused on a mesh alone
HOW = "see what changed, then python -m tests.lib.composition_table"


@pytest.mark.parametrize("row", compositions.ROWS)
def test_what_optax_has_is_right_or_refused(row):
    """On a mesh and by vmap in turn; the command runs every cell on both."""
    number = list(compositions.ROWS).index(row)
    turn = None if row in OTHER_BY_VMAP else number % 2
    assert_on_the_page(composition_table.vectors_row(row, turn))


@pytest.mark.parametrize("way", ways.WAYS)
def test_a_step_runs_in_every_way(way):
    assert_on_the_page(composition_table.ways_row(way))


def assert_on_the_page(row):
    line = composition_table.line(row)
    lines = composition_table.PAGE.read_text().splitlines()
    assert line in lines, f"not as docs/composition.md says; {HOW}"


def test_every_refusal_on_the_page_has_a_cell():
    text = composition_table.PAGE.read_text()
    for letter in composition_table.NOTES:
        assert f"refused ({letter})" in text, f"nothing is refused by note {letter}"
