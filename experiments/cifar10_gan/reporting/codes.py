"""What the codes of recorded vectors could be sent in, as streams: a CSV file."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from experiments.cifar10_gan.methods import exchange_state
from experiments.cifar10_gan.run import Run
from experiments.common.codes import CodeBits, code_bits
from experiments.common.tables import CsvWriter

COLUMNS = (
    "iteration",
    "group",
    "quantizer",
    "coordinates",
    "fixed",
    "entropy",
    "huffman",
    "bound",
)


class CodesLog:
    """A row for each group of a recorded vector; no file where nothing is quantized.

    Bits are those of a coordinate's code, without the scales of buckets: `fixed` in a
    collective, and as streams, see `CodeBits`.
    """

    def __init__(self, path: pathlib.Path, *, resume_at: int | None) -> None:
        """Goes on with the file, without rows after `resume_at` (-1: any)."""
        self._path = path
        self._resume_at = resume_at
        self._writer: CsvWriter | None = None

    def record(self, run: Run, vector: Any) -> None:
        """Counts a worker's vector, by the quantizers and levels that are in use.

        Levels are those of the state: before an exchange that fits them anew, the old.
        """
        exchange, levels = (
            run.method.exchange,
            exchange_state(run.training.state).levels,
        )
        tree = jax.tree.map(jnp.asarray, vector)
        layout = exchange.layout(tree)
        found: dict[str, tuple[int, CodeBits]] = {}
        for flat, own in zip(layout.vectors, layout.flatten(tree), strict=True):
            quantizer = exchange.quantizers[flat.label] if flat.label else None
            if flat.label is None or quantizer is None:
                continue
            table = levels.get(flat.label)
            table = None if table is None else jnp.asarray(table.addressable_data(0))
            bits = code_bits(own, quantizer, table)
            size, before = found.get(flat.label, (0, CodeBits()))
            found[flat.label] = size + flat.size, before.plus(bits)
        for label, (size, bits) in found.items():
            of = exchange.quantizers[label]
            assert of is not None
            self._write(
                {
                    "iteration": run.iteration,
                    "group": label,
                    "quantizer": of.family,
                    "coordinates": size,
                }
                | {name: value / size for name, value in bits._asdict().items()}
            )

    def _write(self, row: dict[str, Any]) -> None:
        if self._writer is None:
            self._writer = CsvWriter(self._path, COLUMNS, resume_at=self._resume_at)
        self._writer.write(row)

    def __enter__(self) -> "CodesLog":
        return self

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            self._writer.close()
