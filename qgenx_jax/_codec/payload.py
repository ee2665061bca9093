"""What a worker sends for one array, and whose it is."""

import dataclasses
from typing import Any

import jax
import numpy as np

from qgenx_jax import _checks
from qgenx_jax._types import Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Payload:
    """What one worker sends for one array: a record for each bucket.

    A record is the bucket's packed codes and then what its coordinates share, as
    float32, bfloat16 where scales have 16 bits or, for a float64 array, float64: a
    scale, which is the norm up to a factor between 1/2 and 1, or for `min_max` and
    levels over the range the minimum and a scale. NaN marks a bucket that held a NaN or
    an infinity. `Quantizer.records` opens them.

    Attributes:
        data: uint8 of shape (bytes,), record after record.
        shape: shape of the array.
        dtype: dtype of the array.
        quantizer: the one that encoded it; None if it is not known, for bytes that came
            from elsewhere.
        other_levels: whether it was given levels other than its own.
    """

    data: Array
    shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    dtype: np.dtype = dataclasses.field(metadata={"static": True})
    quantizer: Any = dataclasses.field(default=None, metadata={"static": True})
    other_levels: bool = dataclasses.field(default=False, metadata={"static": True})

    @property
    def nbytes(self) -> int:
        """Bytes on the wire."""
        return self.data.size

    def check(self, n_bytes: int, quantizer: Any) -> None:
        """Checks that a quantizer, whose payloads have so many bytes, may open it.

        Raises:
            ValueError: if the payload is another one's, or has other bytes.
        """
        way_out = "decode it with the quantizer that encoded it"
        if self.quantizer not in (None, quantizer):
            rule = f"must be encoded by {quantizer}"
            raise _checks.refuse("payload", rule, self.quantizer, way_out)
        found = jax.ShapeDtypeStruct(self.data.shape, self.data.dtype)
        if found != jax.ShapeDtypeStruct((n_bytes,), np.uint8):
            rule = f"must be {n_bytes} bytes for {quantizer} and the shape {self.shape}"
            raise _checks.refuse("payload", rule, found, way_out)

    def check_levels(self, levels: Array | None) -> None:
        """Checks that levels are given where they were given to the encoder.

        Raises:
            ValueError: if they are not.
        """
        if self.quantizer is not None and self.other_levels != (levels is not None):
            there = "with levels" if self.other_levels else "without levels"
            raise _checks.refuse(
                "levels",
                "must be given to decode exactly where they were given to encode",
                _checks.Text(f"a payload encoded {there}"),
                "give both the same levels",
            )
