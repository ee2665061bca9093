r"""Mutations of the library's arithmetic, and whether the tests notice them.

    python -m experiments.checks.mutation \
        --files _codec/rounding problems/affine:132 --limit 40

copies the tree to a temporary folder and changes one node of one file at a time: an
operator, a comparison, a constant, a rounding, a sign. A mutant is caught if a test of
its room fails, or takes too long. A survivor is a change that no test of the room sees:
either it is equivalent (the program does the same), or a test is missing.
"""

import argparse
import ast
import itertools
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from experiments.common import tables
from experiments.common.processes import ROOT

LIBRARY, PIPE = "qgenx_jax", subprocess.PIPE

# what else concerns a file of the library, besides its twin and its doctests
ALSO = """
_checks codec/bad_input exchange/bad_input methods/bad_input workers/axes
_random codec/bits exchange/exchange codec/families
_trees exchange/layout exchange/groups exchange/all_gather
_codec/bits codec/families
_codec/coder exchange/groups exchange/reduce_scatter
_codec/levels codec/bad_input codec/families
_codec/quantizer codec/bad_input exchange/groups codec/families
_codec/records codec/quantizer codec/families
_codec/rounding codec/scales codec/quantizer codec/families
_codec/scales codec/quantizer
_codec/families/min_max codec/bad_input codec/scales codec/quantizer
_codec/families/uniform codec/bad_input codec/scales codec/quantizer
_codec/families/with_levels codec/bad_input codec/levels codec/quantizer
_exchange/choice exchange/bad_input exchange/hierarchical exchange/reduce_scatter
_exchange/exchange exchange/bad_input exchange/groups exchange/all_gather
_exchange/factory exchange/bad_input
_exchange/groups exchange/bad_input
_exchange/layout exchange/groups exchange/all_gather
_exchange/parts exchange/reduce_scatter exchange/hierarchical
_exchange/strategies/hierarchical contracts/traffic
_exchange/strategies/reduce_scatter contracts/traffic
_exchange/strategy exchange/all_gather
_exchange/traffic exchange/choice contracts/traffic
_methods/accumulate methods/bad_input
_methods/averaging methods/bad_input
_methods/chain methods/bad_input
_methods/inner methods/bad_input
_methods/pair methods/bad_input methods/extragradient
_methods/q_genx methods/step_size
_methods/readers methods/bad_input
_methods/step_size methods/q_genx
_workers/collectives exchange/all_reduce exchange/exchange exchange/all_gather
"""


def twin(room: str) -> str:
    """The test file of a file of the library: the same name in the same folder."""
    *folders, file = room.split("/")
    if folders == ["_codec", "families"]:  # one table has a row for each
        folders, file = ["_codec"], "families"
    if folders == ["_exchange", "strategies"]:  # one each, beside the others
        folders = ["_exchange"]
    parts = ["tests", *(x.lstrip("_") for x in folders), f"test_{file.strip('_')}.py"]
    return "/".join(parts)


def rooms() -> dict[str, list[str]]:
    """The files of the library, as "_codec/packing", and the tests that concern them.

    Files that none does are left out.
    """
    rows = map(str.split, ALSO.strip().splitlines())
    also = {
        room: [re.sub(r"(\w+)$", r"test_\1.py", f"tests/{name}") for name in tests]
        for room, *tests in rows
    }
    found = {}
    for path in sorted((ROOT / LIBRARY).rglob("*.py")):
        room = path.relative_to(ROOT / LIBRARY).with_suffix("").as_posix()
        own = [twin(room)] if (ROOT / twin(room)).exists() else []
        tests = own + also.pop(room, [])
        if path.stem != "__init__" and tests:
            found[room] = tests
    if also:
        raise SystemExit(f"ALSO has no file of the library in {', '.join(also)}")
    return found


ROOMS = rooms()

SWAPS = """
Add:Sub Sub:Add Mult:Add Div:Mult FloorDiv:Mult Mod:FloorDiv Pow:Mult LShift:RShift
RShift:LShift BitAnd:BitOr BitOr:BitAnd BitXor:BitOr And:Or Or:And Lt:LtE,GtE LtE:Lt,Gt
Gt:GtE,LtE GtE:Gt,Lt Eq:NotEq NotEq:Eq In:NotIn NotIn:In Is:IsNot IsNot:Is USub:UAdd
Invert:UAdd min:max max:min minimum:maximum maximum:minimum round:floor floor:ceil
ceil:floor
"""
SWAP = {old: new.split(",") for old, new in (x.split(":") for x in SWAPS.split())}


class Mutant(NamedTuple):
    """setattr(node, attribute, value), for the node of this index in `nodes`."""

    room: str
    index: int
    line: int
    attribute: str
    value: Any


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of behaviour: no annotations, decorators, docstrings or error texts."""
    for field, content in ast.iter_fields(tree):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        for node in content if isinstance(content, list) else [content]:
            if isinstance(node, ast.AST) and not is_text(node):
                yield from (node, *nodes(node))


def is_text(node: ast.AST) -> bool:
    """Whether a statement or expression only documents, names types or explains."""
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        names_types = r"__all__|\w+: TypeAlias|\w+ = [\w.]+ \| [\w.]+$"
        return re.match(names_types, ast.unparse(node)) is not None
    constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return constant or isinstance(node, (ast.Raise, ast.Assert, ast.JoinedStr))


def changes(node: ast.AST) -> list[tuple[str, Any]]:
    """Attributes of a node and the values they are changed to."""
    match node:
        case ast.UnaryOp(op=ast.Not()):
            return [("operand", ast.UnaryOp(ast.Not(), node.operand))]
        case ast.BinOp() | ast.AugAssign() | ast.BoolOp() | ast.UnaryOp():
            op = type(node.op).__name__
            return [("op", getattr(ast, x)()) for x in SWAP.get(op, [])]
        case ast.Compare(ops=[first, *rest]):
            swaps = SWAP[type(first).__name__]
            return [("ops", [getattr(ast, x)(), *rest]) for x in swaps]
        case ast.Constant(value=bool()):
            return [("value", not node.value)]
        case ast.Constant(value=int() as value):
            return [("value", value + 1), ("value", value - 1)]
        case ast.Constant(value=float() as value):
            return [("value", x) for x in sorted({2 * value, value + 1} - {value})]
        case ast.Attribute(attr=name):
            return [("attr", x) for x in SWAP.get(name, [])]
        case ast.Name(id=name):
            return [("id", x) for x in SWAP.get(name, [])]
    return []


def mutants(room: str, line: int | None) -> list[Mutant]:
    """All mutants of a file, or of one line of it."""
    tree = ast.parse((ROOT / LIBRARY / f"{room}.py").read_text())
    return [
        Mutant(room, index, node.lineno, attribute, value)
        for index, node in enumerate(nodes(tree))
        if isinstance(node, (ast.expr, ast.stmt)) and line in (None, node.lineno)
        for attribute, value in changes(node)
    ]


def mutated(mutant: Mutant) -> tuple[str, str]:
    """The source with the change, and what the change is."""
    tree = ast.parse((ROOT / LIBRARY / f"{mutant.room}.py").read_text())
    node = list(nodes(tree))[mutant.index]
    before = ast.unparse(node)
    setattr(node, mutant.attribute, mutant.value)
    return ast.unparse(tree), f"{before}  ->  {ast.unparse(node)}"


def run(copy: pathlib.Path, tests: list[str], limit: float | None) -> tuple[str, float]:
    """What failed, a test or the time limit; "" if all passed; and the seconds."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    # programs that a mutation leaves alone are not compiled again
    cache = {"JAX_COMPILATION_CACHE_DIR": str(copy / ".programs")}
    cache["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    settings: Any = {"cwd": copy, "env": os.environ | cache, "timeout": limit}
    start, failed = time.monotonic(), ""
    try:
        subprocess.run(command + tests, text=True, stdout=PIPE, check=True, **settings)
    except subprocess.TimeoutExpired:
        failed = "time limit"
    except subprocess.CalledProcessError as error:
        named = re.search(r"^(?:FAILED|ERROR) (\S+)", error.stdout, re.MULTILINE)
        found = named[1] if named else error.stdout[-300:].strip() or "a crash"
        failed = "" if error.returncode == 5 else found  # 5: no doctests in a room
    return failed, time.monotonic() - start


def sample(wanted: list[str], limit: int, seed: int) -> list[Mutant]:
    """At most `limit` mutants: of each file about as the root of how many it has."""
    rng, order, ranked = random.Random(seed), list(ROOMS), []
    for name in wanted:
        room, _, line = name.partition(":")
        if room not in ROOMS:
            raise SystemExit(f"--files must be of {', '.join(ROOMS)}, got {room!r}")
        pile = mutants(room, int(line) if line else None)
        rng.shuffle(pile)
        ranked += [(i / len(pile) ** 0.5, mutant) for i, mutant in enumerate(pile)]
    chosen = [mutant for _, mutant in sorted(ranked, key=lambda x: x[0])[:limit]]
    return sorted(chosen, key=lambda m: (order.index(m.room), m.line))


def main() -> None:
    """Runs the sample, with progress, and prints the table."""
    parser = argparse.ArgumentParser(
        "python -m experiments.checks.mutation", description=__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    files = "files of the library, or single lines of them as ROOM:LINE; default: all"
    parser.add_argument("--files", nargs="+", default=list(ROOMS), help=files)
    parser.add_argument("--limit", type=int, default=140, help="most mutants, 140")
    parser.add_argument("--seed", type=int, default=0, help="of the sample, 0")
    options = parser.parse_args()
    chosen = sample(options.files, options.limit, options.seed)
    outcomes: dict[str, list[str]] = {mutant.room: [] for mutant in chosen}
    with tempfile.TemporaryDirectory() as folder:
        copy, took = pathlib.Path(folder) / "tree", dict[str, float]()
        skip = shutil.ignore_patterns(".*", "__pycache__", "runs", "shared")
        shutil.copytree(ROOT, copy, ignore=skip)
        for number, mutant in enumerate(chosen, 1):
            tests = [f"{LIBRARY}/{(room := mutant.room)}.py", *ROOMS[mutant.room]]
            for test in tests:
                if test not in took:
                    caught, took[test] = run(copy, [test], None)
                    if caught:
                        raise SystemExit(f"without a mutation, {caught} fails")
                    print(f"{test} passes in {took[test]:.0f} s", flush=True)
            path = copy / LIBRARY / f"{room}.py"
            original = path.read_text()
            source, change = mutated(mutant)
            path.write_text(source)
            caught, seconds = run(copy, tests, 60 + 4 * sum(took[t] for t in tests))
            path.write_text(original)
            where = f"{room}.py:{mutant.line}  {change}"
            outcomes[room].append("" if caught else where)
            how = f"({seconds:.0f} s: {caught or 'SURVIVED'})"
            print(f"[{number}/{len(chosen)}]", where, how, flush=True)
    print()
    tables.print_table(
        [
            {"file": f"{room}.py", "mutants": len(found), "caught": found.count("")}
            for room, found in outcomes.items()
        ]
    )
    for survivor in filter(None, itertools.chain(*outcomes.values())):
        print(f"survived: {survivor}")


if __name__ == "__main__":
    main()
