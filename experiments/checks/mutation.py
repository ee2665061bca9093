"""Mutations of the library's arithmetic, and whether the tests notice them.

    python -m experiments.checks.mutation --files _rounding problems:132 --limit 40

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

# rooms, and the tests that concern them, fastest first; doctests of a room come before
TABLE = """
_packing codec/packing, _fusion codec/fusion, _payload codec/quantizer codec/bad_input
_cost exchange/traffic exchange/strategies
_scales codec/scales codec/quantizer, _records codec/quantizer codec/families
_pallas pallas, _pallas_recode pallas_recode, _passes codec/coder
_coders exchange/groups exchange/reduce_scatter
_levels codec/bad_input codec/levels codec/families
_families codec/bad_input codec/families codec/quantizer
_random codec/bits exchange/exchange codec/families
_groups exchange/bad_input exchange/groups
_rounding codec/scales codec/quantizer codec/families
_quantize codec/bad_input exchange/groups codec/families codec/quantizer
_collectives exchange/all_reduce exchange/groups exchange/exchange exchange/all_gather
_trees trees exchange/layout exchange/groups exchange/all_gather
_exchange exchange/bad_input exchange/groups exchange/exchange exchange/all_gather
_operators problems/games
_wire exchange/reduce_scatter contracts/traffic
_traffic exchange/traffic contracts/traffic
_reduce_scatter exchange/reduce_scatter
_strategies exchange/strategies exchange/hierarchical exchange/reduce_scatter
_hierarchical exchange/hierarchical contracts/traffic
_step_size methods/step_size methods/q_genx
_averaging methods/averaging methods/bad_input
_qgenx methods/step_size methods/q_genx, _extragradient methods/extragradient
_accumulate methods/bad_input methods/accumulate, problems problems/affine
_workers workers/axes workers/collectives workers/map_workers
"""
rows = map(str.split, re.split(r"[,\n]\s*", TABLE.strip()))
ROOMS = {
    room: [re.sub(r"(\w+)$", r"test_\1.py", f"tests/{name}") for name in tests]
    for room, *tests in rows
}

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
