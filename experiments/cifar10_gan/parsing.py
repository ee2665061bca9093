"""Fields that hold several things, with commas between them."""

JUDGED = ("frechet", "kid")
"""Scores by a network, that a run may ask for."""


def parse_numbers(name: str, text: str) -> tuple[int, ...]:
    """The whole numbers of a field, with commas between them.

    Raises:
        ValueError: if it is not such.
    """
    items = [item.strip() for item in text.split(",") if item.strip()]
    if not all(item.isdigit() for item in items):
        raise ValueError(
            f"{name} must be whole numbers with commas between them, got {text!r}; "
            "write for instance 0,200,1000"
        )
    return tuple(int(item) for item in items)


def parse_scores(text: str, known: tuple[str, ...] = JUDGED) -> tuple[str, ...]:
    """The names of scores in a field, with commas between them.

    Raises:
        ValueError: for one that is not known.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise ValueError(
                f"scores must be among {', '.join(known)}, with commas between them, "
                f"got {name!r}; leave it out"
            )
    return tuple(dict.fromkeys(names))
