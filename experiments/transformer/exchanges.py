"""What is compared: the paper's quantizer and this library's best, by name."""

import re

import qgenx_jax as qgenx

EXACT = "exact"


def create(name: str, axis_name: str, seed: int) -> qgenx.Exchange:
    """The exchange of a name, without small leaves, which travel exact.

    Args:
        name: "exact"; "uniform4", `uniform(4)` with independent rounding; "adaptive4",
            rounded together; "best4", `best(4)`; by 1 to 8 bits.
        axis_name: over workers.
        seed: of the rounding.

    Raises:
        ValueError: for another name.
    """
    if name == EXACT:
        return qgenx.exchange(axis_name, None)
    found = re.fullmatch(r"(uniform|adaptive|best)([1-8])", name)
    if found is None:
        raise ValueError(
            f"exchanges must be exact, or uniform, adaptive or best and 1 to 8 bits, "
            f"got {name!r}; write for instance best2"
        )
    make = {"uniform": qgenx.uniform, "adaptive": qgenx.adaptive, "best": qgenx.best}
    rounding = "independent" if found[1] == "uniform" else "correlated"
    return qgenx.exchange(
        axis_name,
        make[found[1]](int(found[2])),
        exact=qgenx.small_leaves,
        rounding=rounding,
        key=seed,
    )
