"""Docstrings become reStructuredText that says the same."""

import pytest

pytest.importorskip("sphinx", reason="sphinx is in the extra `docs`")

from docs.extensions.docstrings import converted, prose

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("of `a` and `b`", "of ``a`` and ``b``"),
        ("`NamedSharding`s", "``NamedSharding``\\ s"),
        (
            "||v||_2 * |u|, x_ of\nV_{k,t}",
            "\\|\\|v\\|\\|_2 \\* \\|u\\|, x\\_ of\nV\\_{k,t}",
        ),
        ("`jnp.where(a,\n    b)` is", "``jnp.where(a, b)`` is"),
        ("K.", "\\K."),
        ("per_worker and X_1", "per_worker and X_1"),
        ("a\\b", "a\\\\b"),
    ],
)
def test_running_text(written, expected):
    assert prose(written) == expected


WRITTEN = """\
One line.

A paragraph:

    X_{t+1} = X_t

Args:
    axis_name: the axis; its
        second line.
    kind: what it is:
        "one": first, and
        more;
        "two": second.

Returns:
    The pair: both. A second
    line.

Example:
    >>> f(x_)
    1

References:
    Somebody."""
EXPECTED = """\
One line.

A paragraph:

::

    X_{t+1} = X_t

Args:
    axis_name: the axis; its
        second line.
    kind: what it is:

        - "one": first, and
          more;

        - "two": second.


:returns: The pair: both. A second
    line.

Example:
    >>> f(x_)
    1

References:
    Somebody.
"""


def test_sections():
    assert "\n".join(converted(WRITTEN.split("\n"))) == EXPECTED


def test_an_entry_without_a_name_is_refused():
    with pytest.raises(ValueError, match=r"not `name: text`: +just words"):
        converted(["Args:", "    just words"])
