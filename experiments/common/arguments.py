"""What programs' command lines share: lists, a folder for output, an early end."""

import pathlib
from collections.abc import Callable, Sequence

from absl import app


def run(main: Callable[[list[str]], None]) -> None:
    """`app.run`, which ends without a traceback where a user interrupts it."""
    try:
        app.run(main)
    except KeyboardInterrupt:
        kept = "tables of what was measured are in --output, if it was given"
        raise SystemExit(f"interrupted; {kept}") from None


def whole_numbers(flag: str, items: Sequence[str], low: int, high: int) -> list[int]:
    """The numbers of a flag such as ``10,12,20..26``, in order, each once.

    Args:
        flag: its name, for errors.
        items: numbers, or ranges with both ends.
        low: the least that is allowed.
        high: the greatest.

    Raises:
        app.UsageError: if there are none, or what is there is not such.
    """
    found: list[int] = []
    for item in items:
        first, dots, last = item.strip().partition("..")
        try:
            numbers = range(int(first), int(last if dots else first) + 1)
        except ValueError:
            numbers = range(0)
        if not numbers or not low <= numbers[0] <= numbers[-1] <= high:
            raise app.UsageError(
                f"--{flag} must list whole numbers from {low} to {high}, or ranges, "
                f"got {item!r}; write for instance --{flag}={low},{low + 1}..{high}"
            )
        found.extend(numbers)
    if not found:
        raise app.UsageError(f"--{flag} must list at least one number, got none")
    return list(dict.fromkeys(found))


def names(flag: str, items: Sequence[str], known: Sequence[str]) -> list[str]:
    """The names of a flag, in order, each once.

    Raises:
        app.UsageError: if there are none, or one is not known.
    """
    found = [item.strip() for item in items]
    for item in found or [""]:
        if item not in known:
            raise app.UsageError(
                f"--{flag} must list some of {', '.join(known)}, got {item!r}"
            )
    return list(dict.fromkeys(found))


def output_folder(text: str, argv: Sequence[str] = ()) -> pathlib.Path | None:
    """The folder of --output, made, or None; to be called before anything is measured.

    Args:
        text: of the flag, "" for none.
        argv: what `app.run` hands on: the program, and whatever was no flag.

    Raises:
        app.UsageError: if it cannot be a folder, or there is more than flags.
    """
    if len(argv) > 1:
        raise app.UsageError(
            f"there are only flags, which begin with --, got {argv[1:]}"
        )
    return folder("output", text) if text else None


def folder(flag: str, text: str) -> pathlib.Path:
    """The folder that a flag names, made.

    Raises:
        app.UsageError: if it cannot be one.
    """
    found = pathlib.Path(text)
    try:
        found.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise app.UsageError(
            f"--{flag} must be a folder, or a name for one, got {text!r} "
            f"({error.strerror}); name another"
        ) from None
    return found
