"""Links from public names in running text to their API entries.

`uniform`, `qgenx.uniform` and `uniform(bits=4)` in backticks are links, in docstrings
and on pages; not on pages where other libraries' names are the same. Files that public
names come from, `qgenx_jax/_methods/q_genx.py`, are links to their text.
"""

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

from docs.extensions.rooms import found, rooms

NAME = re.compile(r"^(?:qgenx(?:_jax)?\.)?([A-Za-z_][\w.]*)(?:\(.*\))?$")
FOREIGN = ("composition", "coming_from")


class Names(SphinxTransform):
    """Wraps code that is a public name in a reference."""

    default_priority = 480

    def apply(self, **keywords: Any) -> None:
        """To all code of a page that is not in a link or a title."""
        known = {name for names in rooms().values() for name in names}
        modules = {getattr(found(name), "__module__", "") for name in known}
        files = {f"{module.replace('.', '/')}.py" for module in modules}
        # classes of a namespace are written without it
        inside = {
            name.partition(".")[2]: name.partition(".")[0] + "."
            for name in known
            if name.partition(".")[2][:1].isupper()
        }
        methods = {name for name in known if name.rpartition(".")[2][0].isupper()}
        for node in list(self.document.findall(nodes.literal)):
            text = node.astext()
            if len(text) <= 30 and " " not in text:
                node["classes"].append("short")  # is not cut at a hyphen
            if self.env.docname in FOREIGN:
                continue
            match = NAME.match(text)
            within = (nodes.reference, addnodes.pending_xref, nodes.title)
            if isinstance(node.parent, within):
                continue
            if text in files:
                uri = self.app.builder.get_relative_uri(
                    self.env.docname, f"_modules/{text.removesuffix('.py')}"
                )
                link = nodes.reference("", "", refuri=uri, internal=True)
                node.replace_self(link)
                link += node
                continue
            if match is None:
                continue
            name = match.group(1)
            name = inside.get(name.partition(".")[0], "") + name
            if name not in known and name.rpartition(".")[0] not in methods:
                continue
            link = addnodes.pending_xref(
                "",
                refdomain="py",
                reftype="obj",
                reftarget=f"qgenx_jax.{name}",
                refexplicit=True,
                refwarn=False,
            )
            node.replace_self(link)
            link += node


def setup(app: Any) -> dict[str, bool]:
    """Adds the transform."""
    app.add_transform(Names)
    return {"parallel_read_safe": True}
