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


def parse_range(name: str, text: str) -> tuple[int, int] | None:
    """The first and last number of a field such as "20-25"; None of an empty one.

    Raises:
        ValueError: if it is not such, or ends before it starts.
    """
    if not text.strip():
        return None
    first, dash, last = (part.strip() for part in text.partition("-"))
    if not (dash and first.isdigit() and last.isdigit() and int(first) >= 1):
        raise ValueError(
            f"{name} must be two iterations with a dash, the first at least 1, got "
            f"{text!r}; write for instance 20-25"
        )
    if int(last) < int(first):
        raise ValueError(f"{name} must not end before it starts, got {text!r}")
    return int(first), int(last)
