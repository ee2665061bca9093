"""A number that the theory gives, beside the one that was measured."""

from typing import Any, NamedTuple

from experiments.vi.fits import Fit


class Claim(NamedTuple):
    """What is claimed, and what was found.

    Attributes:
        figure: that shows it.
        says: in words.
        wanted: the number.
        tolerance: how far from it, or past it, the measured mean may be.
        found: the measured number.
        kind: "near" the wanted number, "least" or "most".
        why: the reason where it does not show, or else a remark.
    """

    figure: str
    says: str
    wanted: float
    tolerance: float
    found: Fit
    kind: str = "near"
    why: str = ""

    @property
    def holds(self) -> bool:
        """Whether the mean is where it should be."""
        off = self.found.mean - self.wanted
        if self.kind == "least":
            return off >= -self.tolerance
        return (abs(off) if self.kind == "near" else off) <= self.tolerance

    @property
    def rule(self) -> str:
        """The wanted number with its tolerance."""
        word = {"near": "", "least": "at least ", "most": "at most "}[self.kind]
        return f"{word}{self.wanted:.4g}" + (
            f" ± {self.tolerance:.4g}" if self.tolerance else ""
        )

    @property
    def row(self) -> dict[str, Any]:
        """Of the table of verdicts."""
        mean, low, high, seeds = self.found
        return {
            "figure": self.figure,
            "claim": self.says,
            "wanted": self.rule,
            "found": f"{mean:.4g}",
            "95 %": f"{low:.4g} .. {high:.4g}" if seeds > 1 else "",
            "verdict": "holds" if self.holds else "does not",
            "why": self.why,
        }
