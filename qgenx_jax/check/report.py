"""Verdicts and times of an exchange, as a text to paste into an issue."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from qgenx_jax._workers.failures import ExchangeError
from qgenx_jax.check.verdicts import Verdict

CLEARLY = 1.1
"""How many times as fast an exchange has to be, to be called so."""


class Timed(NamedTuple):
    """Seconds of one size.

    Attributes:
        coordinates: of the vector.
        exact: seconds of an all-reduce (`jax.lax.psum`).
        this: seconds of the exchange, with its codec.
        sent_bytes: of the exchange.
    """

    coordinates: int
    exact: float
    this: float
    sent_bytes: int


@dataclasses.dataclass(frozen=True)
class Report:
    """What `check_exchange` returns; printed, it is a text.

    Attributes:
        where: versions, devices and the mesh.
        what: the exchange.
        verdicts: of each check.
        error: E ||mean - exact mean||^2 / ||exact mean||^2; None if not measured.
        times: for each size; () if it was not timed.
    """

    where: str
    what: str
    verdicts: Sequence[Verdict]
    error: float | None = None
    times: Sequence[Timed] = ()

    @property
    def ok(self) -> bool:
        """Whether no check has failed."""
        return all(verdict.ok is not False for verdict in self.verdicts)

    @property
    def pays(self) -> bool | None:
        """Whether it is faster by a tenth, at the largest size; None if not timed."""
        if not self.times:
            return None
        return _pays(self.times[-1])

    def raise_if_failed(self) -> None:
        """Says what is wrong, if anything is.

        Raises:
            ExchangeError: a RuntimeError with the whole text, if a check has failed.
        """
        if not self.ok:
            raise ExchangeError(f"the exchange does not do what it is to\n{self}")

    def __str__(self) -> str:
        """The text."""
        words = {True: "ok", False: "FAILED", None: "-"}
        width = max((len(v.name) for v in self.verdicts), default=0)
        lines = [self.where, self.what]
        lines += [f"{v.name:{width}}  {words[v.ok]:6}  {v.text}" for v in self.verdicts]
        if self.error is not None:
            lines.append(f"E ||error of the mean||^2 / ||mean||^2 = {self.error:.2e}")
        if self.times:
            lines.append(f"{'coordinates':>12} {'exact':>11} {'this':>11} exact/this")
        for row in self.times:
            times = f"{1e3 * row.exact:8.2f} ms {1e3 * row.this:8.2f} ms"
            ratio = row.exact / row.this
            lines.append(f"{row.coordinates:12,} {times} {ratio:10.2f}")
        if self.times:
            lines.append(self._advice())
        return "\n".join(lines)

    def _advice(self) -> str:
        pays = [row.coordinates for row in self.times if _pays(row)]
        if not pays:
            return "compression does not pay here, at any of these sizes"
        if len(pays) == len(self.times):
            return "compression pays here, at all of these sizes"
        return (
            f"compression pays here at {', '.join(f'{n:,}' for n in pays)} coordinates"
        )


def _pays(row: Timed) -> bool:
    return row.exact > CLEARLY * row.this
