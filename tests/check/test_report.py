"""The text of a report."""

import pytest

from qgenx_jax.check.report import Report, Timed
from qgenx_jax.check.verdicts import Verdict

pytestmark = pytest.mark.quick
GOOD, BAD = Verdict("unbiased", True, "z"), Verdict("bytes", False, "too many")
ROWS = [Timed(100, 1e-3, 2e-3, 50), Timed(10_000, 4e-3, 2e-3, 5_000)]


def test_a_report_says_what_holds_and_what_it_is_worth():
    report = Report("here", "this", [GOOD, Verdict("x", None, "-")], 0.01, ROWS)
    text = str(report)
    assert report.ok
    assert report.pays is True
    assert "unbiased  ok" in text
    assert "10,000     4.00 ms     2.00 ms       2.00" in text
    assert text.endswith("compression pays here at 10,000 coordinates")
    report.raise_if_failed()


def test_a_report_of_a_failure_raises_with_its_text():
    report = Report("here", "this", [GOOD, BAD])
    assert report.ok is False
    assert report.pays is None
    with pytest.raises(RuntimeError, match="bytes     FAILED  too many"):
        report.raise_if_failed()


@pytest.mark.parametrize(
    ("rows", "text"),
    [(ROWS[:1], "does not pay here"), (ROWS[1:], "pays here, at all of these sizes")],
)
def test_advice(rows, text):
    assert text in str(Report("here", "this", [GOOD], None, rows))
