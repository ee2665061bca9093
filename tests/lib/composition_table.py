"""docs/composition.md, from what every cell does.

A cell that is neither right nor refused by one of `NOTES` cannot be
written. The page is made by `python -m tests.lib.composition_table`.
"""

import os
import pathlib
import re
from collections.abc import Iterable, Sequence

from experiments.common import tables

PAGE = pathlib.Path(__file__).parent.parent.parent / "docs" / "composition.md"

NOTES = {
    "a": "must hand on every vector, as half-steps go on with every call",
    "b": "must hand on the moves of alternating as they are",
    "c": "must be equal on all workers",
    "d": "must vary over the worker axis",
    "e": "must decide alike on all workers",
    "f": "must have no schedule injected around accumulate",
}
"""The rules by which cells are refused, as their errors have them."""

TEXT = """# What composes with what

`python -m tests.lib.composition_table` runs every cell, on two devices of a mesh and by
`vmap`, and writes this page; `tests/contracts/test_composition.py` compares it with
every cell, run on one of both in turn, and with every way. **right**: after
eight calls the parameters are those of the same thing written in optax alone, for one
process that is given the means of the workers' vectors. **refused**: by an error of
this library's, before anything runs, that names what to write instead. No other outcome
can be written here.

## Transformations of vectors

{vectors}

Before an exchange each worker's own vector is transformed, with a state that is the
same on all workers: what keeps something of a worker's vector there is refused. Noise
that is added there is the same on all workers, as its key is.

## Wrappers of optimizers

{wrappers}

"masked, a part" hands on the bias' vector as it is, which nobody has exchanged where it
goes around the exchange; "partition, frozen" has `optax.set_to_zero` for the bias.

## Ways to run a step

With an exact exchange, beside optax alone; with 4 bits, beside `map_workers` on a mesh.

{ways}

## Refusals

{notes}
"""


def mark(verdicts: Iterable[str]) -> str:
    """What a table says of a cell; one verdict for each place where it was run."""
    found = dict.fromkeys(map(_mark, verdicts))
    return ", by `vmap` ".join(found)


def _mark(verdict: str) -> str:
    if not verdict.startswith("refused: "):
        assert verdict in ("right", "–"), verdict
        return verdict
    rule = re.sub(r"'data'.*", "", verdict)
    letters = [letter for letter, note in NOTES.items() if note in rule]
    assert letters, f"a rule without a note: {verdict}"
    return f"refused ({letters[0]})"


def line(cells: Sequence[str]) -> str:
    """A row as it stands in a table."""
    return tables.markdown([cells]).partition("\n")[0]


def vectors_row(name: str, turn: int | None = None) -> list[str]:
    """Every cell on a mesh and by vmap, or in turn, beginning with number `turn`."""
    from tests.lib import compositions as cells

    places = cells.AROUND if cells.ROWS[name].around else cells.IN_PLACE
    return [
        f"`{name}`" if " " not in name else name,
        *(
            mark(
                cells.verdict(name, place, on)
                for index, on in enumerate(("mesh", "vmap"))
                if turn is None or (number + turn) % 2 == index
            )
            for number, place in enumerate(places)
        ),
    ]


def ways_row(name: str) -> list[str]:
    from tests.lib import ways

    return [name, *(mark([ways.verdict(name, what)]) for what in ways.COLUMNS)]


def page() -> str:
    """The whole page, from cells that are run now."""
    from tests.lib import compositions as cells
    from tests.lib import ways

    def vectors(corner: str, around: bool) -> str:
        places = cells.AROUND if around else cells.IN_PLACE
        header = [corner, *(place.heading for place in places.values())]
        names = [name for name, row in cells.ROWS.items() if row.around == around]
        return tables.markdown([header, *map(vectors_row, names)])

    return TEXT.format(
        vectors=vectors("optax", False),
        wrappers=vectors("optax, around", True),
        ways=tables.markdown([["", *ways.COLUMNS], *map(ways_row, ways.WAYS)]),
        notes="\n".join(f"- ({letter}) ... {note}" for letter, note in NOTES.items()),
    )


if __name__ == "__main__":
    import jax

    from tests.lib.helpers import compiling_plainly, xla_flags

    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_platforms", "cpu")
    os.environ["XLA_FLAGS"] = xla_flags(plain=False)
    with compiling_plainly():
        PAGE.write_text(page())
