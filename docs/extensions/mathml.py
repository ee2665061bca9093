"""Formulas as MathML, which browsers show without a script or a network."""

import re
from typing import Any

from docutils import nodes
from latex2mathml import converter
from sphinx.util import logging

LOG = logging.getLogger(__name__)


def mathml(tex: str, display: str) -> str:
    """The element; commands that the converter does not know are refused."""
    # of the two the converter knows one, which looks the same here
    tex = re.sub(r"\{aligned\}", "{align*}", tex)
    found = converter.convert(tex, display=display)
    unknown = re.findall(r"\\[A-Za-z|]+|<m[io]>&amp;", found)
    if unknown:
        raise ValueError(f"no MathML for {unknown} in {tex}")
    # bars are around something, and want no space as an operator has
    return re.sub(r"<mo( [^>]*)?>(&#x0(?:007C|2016);)</mo>", _bar, found)


def _bar(match: re.Match) -> str:
    return f'<mo{match.group(1) or ""} lspace="0em" rspace="0em">{match.group(2)}</mo>'


def _inline(self: Any, node: nodes.Node) -> None:
    self.body.append(_made(node, "inline"))
    raise nodes.SkipNode


def _block(self: Any, node: nodes.Node) -> None:
    made = _made(node, "block")
    self.body.append(f'<div class="math">{made}</div>\n')
    raise nodes.SkipNode


def _made(node: nodes.Node, display: str) -> str:
    try:
        return mathml(node.astext(), display)
    except Exception as error:
        LOG.warning("%s", error, location=node)
        return ""


def setup(app: Any) -> dict[str, bool]:
    """The renderer, under the name `mathml`."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True}
