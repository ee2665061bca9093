"""Links from public names in running text to their API entries.

`uniform`, `qgenx.uniform` and `uniform(bits=4)` in backticks are links, in docstrings
and on pages; not on pages where other libraries' names are the same. Files that public
names come from, `qgenx_jax/_methods/q_genx.py`, are links to their text.
"""

import functools
import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

from docs.extensions.rooms import found, rooms

NAME = re.compile(r"^(?:qgenx(?:_jax)?\.)?([A-Za-z_][\w.]*)(?:\(.*\))?$")
FOREIGN = ("composition", "coming_from")


class Names(SphinxTransform):
    """Wraps code that is a public name, or its file, in a reference."""

    default_priority = 480

    def apply(self, **keywords: Any) -> None:
        """To all code of a page that is not in a link or a title."""
        within = (nodes.reference, addnodes.pending_xref, nodes.title)
        for node in list(self.document.findall(nodes.literal)):
            text = node.astext()
            if len(text) <= 30 and " " not in text:
                node["classes"].append("short")  # is not cut at a hyphen
            if self.env.docname in FOREIGN or isinstance(node.parent, within):
                continue
            link = self.link_to_file(text) or link_to_name(text)
            if link is not None:
                node.replace_self(link)
                link += node

    def link_to_file(self, text: str) -> nodes.Element | None:
        """To a file's text, if a public name comes from it."""
        if text not in files():
            return None
        page = f"_modules/{text.removesuffix('.py')}"
        uri = self.app.builder.get_relative_uri(self.env.docname, page)
        return nodes.reference("", "", refuri=uri, internal=True)


def link_to_name(text: str) -> nodes.Element | None:
    """To an entry of the API, if there is one."""
    match = NAME.match(text)
    name = match and public_name(match.group(1))
    if name is None:
        return None
    return addnodes.pending_xref(
        "",
        refdomain="py",
        reftype="obj",
        reftarget=f"qgenx_jax.{name}",
        refexplicit=True,
        refwarn=False,
    )


@functools.cache
def public_name(written: str) -> str | None:
    """`problems.Problem` of `Problem`, say, and of its methods; None of other words."""
    known = {name for names in rooms().values() for name in names}
    # classes of a namespace are written without it
    whole = {name.rpartition(".")[2]: name for name in known if _is_class(name)}
    first, dot, rest = written.partition(".")
    name = whole.get(first, first) + dot + rest
    is_method = name.rpartition(".")[0] in whole.values()
    return name if name in known or is_method else None


@functools.cache
def files() -> set[str]:
    """Those that public names come from."""
    names = [name for of_room in rooms().values() for name in of_room]
    modules = {getattr(found(name), "__module__", "") for name in names}
    return {f"{module.replace('.', '/')}.py" for module in modules}


def _is_class(name: str) -> bool:
    return name.rpartition(".")[2][0].isupper()


def setup(app: Any) -> dict[str, bool]:
    """Adds the transform."""
    app.add_transform(Names)
    return {"parallel_read_safe": True}
