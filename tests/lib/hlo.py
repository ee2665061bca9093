"""The collectives of a compiled program, as its text tells them."""

import math
import re

COLLECTIVE = re.compile(
    r"= (?P<result>.*?) (?P<op>all-gather|all-reduce|reduce-scatter|all-to-all|"
    r"collective-permute)(?:-start)?\("
)
ARRAY = re.compile(r"(?P<dtype>[a-z]+\d+|pred)\[(?P<shape>[\d,]*)\]")


def collectives(hlo):
    """(operation, dtype, elements of the result) of every collective in a program."""
    found = []
    for match in COLLECTIVE.finditer(hlo):
        for array in ARRAY.finditer(match["result"]):
            sizes = [int(n) for n in array["shape"].split(",") if n]
            found.append((match["op"], array["dtype"], math.prod(sizes)))
    return found
