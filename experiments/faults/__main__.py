"""Faults put into training runs on purpose: what comes of them, and what it costs.

    python -m experiments.faults kills --times=100
    python -m experiments.faults soak --seconds=3600 --mean_between=45
    python -m experiments.faults flip_bits --flips=500
    python -m experiments.faults cost

Each exits with 1 if something is otherwise than documented in
docs/when_things_fail.md.
"""

import argparse
import importlib
import signal
import sys

COMMANDS = ("kills", "soak", "flip_bits", "cost")


def main() -> None:
    """Runs one of the commands."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m experiments.faults",
        description=__doc__,
        formatter_class=formatter,
    )
    each = parser.add_subparsers(dest="command", required=True)
    rooms = {}
    for name in COMMANDS:
        rooms[name] = importlib.import_module(f"experiments.faults.{name}")
        text = rooms[name].__doc__
        one = each.add_parser(
            name,
            description=text,
            help=text.split("\n")[0],
            formatter_class=formatter,
        )
        rooms[name].arguments(one)
    options = vars(parser.parse_args())
    # else the processes of a run outlive this one
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(not rooms[options.pop("command")].main(**options))


if __name__ == "__main__":
    main()
