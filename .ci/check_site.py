"""The site holds together, and needs no network: links, anchors, files, public names.

python .ci/check_site.py site
"""

import functools
import pathlib
import re
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urlsplit

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from docs.extensions.rooms import found, rooms

LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("source", "src")}
NOT_LOADED = {"next", "prev", "index", "search", "canonical", "author"}
"""Of links in a page's head: addresses that nobody fetches to show the page."""


class Page(HTMLParser):
    """What an HTML file refers to, and what may be referred to in it.

    Attributes:
        anchors: ids.
        links: what its links lead to.
        loaded: what a browser fetches to show it.
        tags: how often each element comes.
    """

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.tags: dict[str, int] = {}
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes it."""
        self.tags[tag] = self.tags.get(tag, 0) + 1
        given = dict(attrs)
        self.anchors.update(filter(None, (given.get("id"), given.get("name"))))
        for name, value in given.items():
            if (tag, name) in LOADED and given.get("rel") not in NOT_LOADED:
                self.loaded.append(value or "")
            elif name == "href":
                self.links.append(value or "")


@functools.cache
def page_of(path: pathlib.Path) -> Page:
    """A file, read once."""
    return Page(path)


def faults_of(path: pathlib.Path) -> list[str]:
    """What is wrong with a page's links."""
    faults, page = [], page_of(path)
    faults += [f"loads {x}" for x in page.loaded if urlsplit(x).netloc]
    for link in (*page.loaded, *page.links):
        if urlsplit(link).scheme or urlsplit(link).netloc:
            continue  # of the web, which is not asked
        where, anchor = urldefrag(link)
        target = path.parent / unquote(urlsplit(where).path) if where else path
        if not target.is_file():
            faults.append(f"no file {link}")
            continue
        anchors = page_of(target.resolve()).anchors if target.suffix == ".html" else ()
        if anchor and anchors and unquote(anchor) not in anchors:
            faults.append(f"no anchor {link}")
    return faults


def main() -> None:
    """Checks all pages, and that every public name has an entry."""
    site = pathlib.Path(sys.argv[1]).resolve()
    pages, faults = sorted(site.rglob("*.html")), []
    for path in pages:
        faults += [f"{path.relative_to(site)}: {fault}" for fault in faults_of(path)]
    for path in sorted(site.rglob("*.css")):
        for address in re.findall(
            r"url\(['\"]?(?:https?:)?//[^)]*\)", path.read_text()
        ):
            faults.append(f"{path.relative_to(site)}: loads {address}")
    anchors = {x for path in site.glob("api/*.html") for x in page_of(path).anchors}
    names = [name for of_room in rooms().values() for name in of_room]
    faults += [f"no entry for {x}" for x in names if f"qgenx_jax.{x}" not in anchors]
    methods = [
        f"{name}.{method}"
        for name in names
        for method, what in vars(found(name)).items()
        if isinstance(found(name), type)
        and not method.startswith("_")
        and callable(what)
        and getattr(what, "__doc__", None)
    ]
    faults += [f"no entry for {x}" for x in methods if f"qgenx_jax.{x}" not in anchors]
    if page_of(site / "theory.html").tags.get("math", 0) < 50:
        faults.append("theory.html: no formulas")
    if faults:
        raise SystemExit("\n".join(faults))
    print(
        f"{len(pages)} pages, all links and anchors are there, nothing is loaded from"
    )
    print(f"elsewhere, and {len(names)} names and {len(methods)} methods have an entry")


if __name__ == "__main__":
    main()
