"""What ends or forks a run, decided in all its processes from one exchanged value."""

from collections.abc import Callable
from typing import TypeVar, cast

from experiments.cifar10_gan.together.crew import Reason
from experiments.cifar10_gan.together.leaving import (
    AnotherProcessFailed,
    code_of,
    crew,
    described,
)

T = TypeVar("T")


def anywhere(flag: bool, name: str = "a flag") -> bool:
    """Whether a flag is set in any process; all of them call it together."""
    return any(gathered(bool(flag), name))


def gathered(value: T, name: str) -> list[T]:
    """Everyone's value, which JSON can hold; all of them call it together."""
    members = crew()
    return [value] if members is None else members.exchange(name, value)


def of_first(value: T, name: str) -> T:
    """Process 0's value, which JSON can hold; all of them call it together."""
    return gathered(value, name)[0]


def alike(name: str, value: T) -> T:
    """The value, which JSON can hold, and which must be everyone's.

    Raises:
        ValueError: in all processes, with the first that differs from process 0's.
    """
    first, *others = gathered(value, name)
    for process, other in enumerate(others, 1):
        if other != first:
            raise ValueError(
                f"{name} must be the same in all processes, got {other!r} in process "
                f"{process} and {first!r} in process 0; give all of them the same "
                "files, and start all again"
            )
    return value


def together(action: Callable[[], T], name: str) -> T:
    """Does what may fail in one process alone; then all processes end, and none waits.

    Raises:
        Exception: what the action raised in this process.
        AnotherProcessFailed: if it failed only elsewhere.
    """
    members = crew()
    if members is None:
        return action()
    failure, result, said = None, None, None
    try:
        result = action()
    except Exception as error:
        failure = error
        said = [f"failed: {described(error)}", code_of(error)]
    failures = members.exchange(name, said)
    if failure is not None:
        raise failure
    for process, other in enumerate(failures):
        if other is not None:
            raise AnotherProcessFailed(Reason(process, *other))
    return cast(T, result)
