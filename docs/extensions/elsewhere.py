"""Pages whose text is a file outside of docs/, and links to such files.

A page that is one line, `{include} FILE` in a fence, has that file's text, and its
links lead where they do from there. Links of any page to a file that is a page's text
lead to that page, and links to README to the first page.
"""

import os
import pathlib
import re
from typing import Any

INCLUDE = re.compile(r"^```\{include\} (\S+)\n```$", re.MULTILINE)
LINK = re.compile(r"(\]\()((?![a-z]+:|#)[^)#\s]+)((?:#[^)\s]*)?\))")
LINE = re.compile(r"^(\[[^\]]+\]: )((?![a-z]+:|#)\S+)()$", re.MULTILINE)


def pages_of(docs: pathlib.Path) -> dict[pathlib.Path, pathlib.Path]:
    """Files outside of docs/: the pages that have their text."""
    pages = {docs.parent / "README.md": docs / "index.md"}
    for page in sorted(docs.rglob("*.md")):
        for name in INCLUDE.findall(page.read_text()):
            pages[(page.parent / name).resolve()] = page
    return pages


def expanded(text: str, page: pathlib.Path, docs: pathlib.Path) -> str:
    """A page's text, included files in it, and links that lead to pages."""
    pages = pages_of(docs)

    def included(match: re.Match) -> str:
        file = (page.parent / match.group(1)).resolve()
        return _linked(file.read_text(), file.parent, page, pages)

    return INCLUDE.sub(included, _linked(text, page.parent, page, pages))


def _linked(text: str, folder: pathlib.Path, page: pathlib.Path, pages: dict) -> str:
    def moved(match: re.Match) -> str:
        before, target, after = match.groups()
        file = (folder / target).resolve()
        if not file.exists():  # a reference to a name, say
            return match.group(0)
        place = os.path.relpath(pages.get(file, file), page.parent)
        return f"{before}{place}{after}"

    # fences are code, where brackets are no links
    pieces = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    for index in range(0, len(pieces), 2):
        pieces[index] = LINE.sub(moved, LINK.sub(moved, pieces[index]))
    return "".join(pieces)


def _read(app: Any, name: str, source: list[str]) -> None:
    page = pathlib.Path(app.env.doc2path(name))
    docs = pathlib.Path(app.srcdir)
    for match in INCLUDE.finditer(source[0]):
        app.env.note_dependency(str((page.parent / match.group(1)).resolve()))
    source[0] = expanded(source[0], page, docs)


def setup(app: Any) -> dict[str, bool]:
    """Connects it to the reading of pages."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True}
