"""API pages: `room` shows the public names of a room of README's table.

A room that is a namespace of its own (`problems`, `bounds`, `entropy`) also has the
names in it.
"""

import functools
import inspect
import pathlib
import re
from types import ModuleType
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

import qgenx_jax
from docs.extensions.docstrings import prose

README = pathlib.Path(__file__).resolve().parents[2] / "README.md"
ROW = re.compile(r"^\| `(\w+)` \| (.*) \| (`.*`) \|$", re.MULTILINE)


@functools.cache
def rooms() -> dict[str, list[str]]:
    """Room: names as users write them after `qgenx_jax.`, namespaces opened."""
    found = {}
    for room, _, names in ROW.findall(README.read_text()):
        found[room] = []
        for name in names[1:-1].split("`, `"):
            what = getattr(qgenx_jax, name)
            if isinstance(what, ModuleType):
                found[room] += [f"{name}.{inner}" for inner in public(what)]
            else:
                found[room].append(name)
    return found


def public(module: ModuleType) -> list[str]:
    """Names that a namespace of the library offers, but for its files."""
    return [
        name
        for name, what in vars(module).items()
        if not name.startswith("_") and not isinstance(what, ModuleType)
    ]


def found(name: str) -> Any:
    """The object behind a public name."""
    return functools.reduce(getattr, name.split("."), qgenx_jax)


class Room(Directive):
    """`.. room:: NAME`, a table of its names, and an entry for each."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The nodes."""
        names = rooms()[self.arguments[0]]
        lines = [".. list-table::", "   :widths: auto", ""]
        for name in names:
            summary = (inspect.getdoc(found(name)) or "").partition("\n\n")[0]
            summary = prose(" ".join(summary.split()))
            lines += [f"   * - :py:obj:`~qgenx_jax.{name}`", f"     - {summary}"]
        for name in names:
            lines += ["", *self.entry(name)]
        content = StringList(lines, source=f"room {self.arguments[0]}")
        section = nodes.section()
        section.document = self.state.document
        self.state.nested_parse(content, self.content_offset, section)
        return section.children

    def entry(self, name: str) -> list[str]:
        """Autodoc's directive for a name."""
        what = found(name)
        if inspect.isclass(what):
            kind, options = "class", ["   :members:", "   :show-inheritance:"]
            if issubclass(what, tuple) or not _has_bases(what):
                options.pop()
        elif callable(what):
            kind, options = "function", []
        else:
            kind, options = "data", []
        return [f".. auto{kind}:: qgenx_jax.{name}", *options]


def _has_bases(kind: type) -> bool:
    return any(base.__module__.startswith("optax") for base in kind.__bases__)


def setup(app: Any) -> dict[str, bool]:
    """The directive."""
    app.add_directive("room", Room)
    return {"parallel_read_safe": True}
