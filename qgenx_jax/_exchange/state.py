"""What an exchange remembers: a key, levels, and what is known of those it fits."""

from typing import Any, NamedTuple

from qgenx_jax._exchange.refresh import Adaptation
from qgenx_jax._types import Array


class ExchangeState(NamedTuple):
    """State of an exchange.

    Attributes:
        key: a PRNG key's words (`jax.random.key_data`), uint32, the same on all
            workers; split at every send. What rounds is this key with the tree's paths
            and shapes and the worker's index folded in. The words are those of the
            exchange's `generator`; a typed key may take their place, and stays typed.
        levels: of each group whose quantizer is `user_levels` or `adaptive`, an array
            (s + 1,), of `dithered` the bend, (1,), to be replaced by other ones at will
            (where those decrease or leave their range, means are NaN); the group of a
            single quantizer is "all".
        per_worker: what differs between workers, each leaf with a leading worker axis;
            None: nothing does between exchanges.
        adaptation: what is known of levels that are fitted; None if none are.
    """

    key: Array
    levels: dict[str, Array]
    per_worker: Any = None
    adaptation: Adaptation | None = None
