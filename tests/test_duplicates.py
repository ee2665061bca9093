"""What two files of the library say alike, one of them should say."""

import ast
import collections
import itertools
import pathlib

import pytest

pytestmark = pytest.mark.quick

LIBRARY = pathlib.Path(__file__).parent.parent / "qgenx_jax"
RUN = 8
"""Lines in a row that two files may not have in common."""


def headers_and_imports(tree):
    """Numbers of lines that are alike wherever a protocol is kept, or a name is used.

    From a function's `def` to the line before its body, and the lines of imports.
    """
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from range(node.lineno, max(node.body[0].lineno, node.lineno + 1))
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from range(node.lineno, node.end_lineno + 1)


def lines_of(text):
    """(number, stripped line) of all lines that are not blank, comments or of those."""
    left_out = set(headers_and_imports(ast.parse(text)))
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if line and not line.startswith("#") and number not in left_out:
            yield number, line


def repeated(texts):
    """[where, ...] of each run of lines that several of {name: text} have."""
    places = collections.defaultdict(dict)
    for name, text in texts.items():
        lines = list(lines_of(text))
        for start in range(len(lines) - RUN + 1):
            run = lines[start : start + RUN]
            places[tuple(line for _, line in run)].setdefault(name, run[0][0])
    return [
        [f"{name}:{line}" for name, line in where.items()]
        for where in places.values()
        if len(where) > 1
    ]


def test_no_two_files_have_eight_lines_in_common():
    files = sorted(LIBRARY.rglob("*.py"))
    texts = {str(path.relative_to(LIBRARY)): path.read_text() for path in files}
    found = repeated(texts)
    assert not found, f"say it once, where both can import it: {found}"


def test_eight_lines_in_common_are_found():
    body = [f"    x = f(x, {i})" for i in range(RUN)]
    header = ["def g(", *(f"    a{i}," for i in range(RUN)), "):"]
    one, other = ["import a", "def f(x):"], ["# else", "def h(", "    x", "):"]
    spread = itertools.chain.from_iterable((f"  {line}", "", "# no") for line in body)
    texts = {
        "one": "\n".join([*one, *body]),
        "other": "\n".join([*other, *spread]),
        "short": "\n".join([*one, *body[:-1]]),
        "header": "\n".join([*header, "    pass"]),
        "alike": "\n".join([*header, "    return 0"]),
    }
    assert repeated(texts) == [["one:3", "other:5"]]
