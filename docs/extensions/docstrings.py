"""The library's docstrings as reStructuredText.

They are written for a terminal: `code` in single backticks, formulas as indented
paragraphs, and characters such as * | _ that stand for themselves. Sections (Args,
Returns, ...) are left to napoleon, which comes after this.
"""

import re
from typing import Any

from sphinx.domains.python import PyObject

ENTRIES = ("Args:", "Attributes:", "Raises:")
SECTIONS = (*ENTRIES, "Returns:", "Example:", "References:")
ENTRY = re.compile(r"^(\s*[*\w, .]+?: )(.*)$", re.DOTALL)
CASE = re.compile(r"""^\s+("\w+"|a `\w+`|[A-Z]\w+): """)
ENUMERATED = re.compile(r"^(\s*)([A-Z]\.)(?=\s|$)", re.MULTILINE)
"""What would begin a list: `K.` as the whole of a text."""
COLON = "\ue000"
"""In place of one, before which napoleon takes a property's words for a type."""
CODE = re.compile(r"(`[^`]+`)")


def prose(text: str) -> str:
    """Running text: code in double backticks, and no other markup."""
    pieces = CODE.split(ENUMERATED.sub(r"\1\\\2", text))
    for place, piece in enumerate(pieces):
        if place % 2:
            code = re.sub(r"\s+", " ", piece[1:-1]).strip()
            pieces[place] = f"``{code}``"
        else:
            escaped = re.sub(r"\\(?![A-Z]\.)|[*|]|_(?![A-Za-z0-9])", _escaped, piece)
            # markup ends only before a space or punctuation
            is_joined = place > 0 and piece[:1].isalnum()
            pieces[place] = "\\ " + escaped if is_joined else escaped
    return "".join(pieces)


def _escaped(match: re.Match) -> str:
    return "\\" + match.group(0)


def converted(lines: list[str]) -> list[str]:
    """A docstring's lines, as autodoc hands them over."""
    out: list[str] = []
    section, base = "", 0
    for paragraph in _paragraphs(lines):
        first = paragraph[0]
        indent = _indent(first)
        is_first = first.strip() in SECTIONS
        if indent == 0:
            section, base = "", 0
        if first.strip() in SECTIONS and indent == 0:
            section = first.strip()
            base = 4
            out.append(first if section != "Returns:" else "")
            paragraph = paragraph[1:]
            if not paragraph:
                continue
            indent = _indent(paragraph[0])
        if paragraph[0].lstrip().startswith(">>>"):
            out += [*paragraph, ""]
        elif indent > base:
            out += [" " * base + "::", "", *paragraph, ""]
        elif section in ENTRIES:
            out += [*_entries(paragraph, base), ""]
        elif section == "Returns:":
            # said here, since napoleon takes what is before a colon for a type
            out += _returns(paragraph, is_first=is_first)
        else:
            out += [*prose("\n".join(paragraph)).split("\n"), ""]
    return out


def _entries(paragraph: list[str], base: int) -> list[str]:
    """`name: text` with text that goes on below, further in."""
    entries: list[list[str]] = []
    for line in paragraph:
        if entries and _indent(line) > base:
            entries[-1].append(line)
        else:
            entries.append([line])
    out: list[str] = []
    for entry in entries:
        text = "\n".join(entry)
        found = ENTRY.match(text)
        if found is None:
            raise ValueError(f"not `name: text`: {text}")
        out += (found.group(1) + prose(_cases(found.group(2)))).split("\n")
    return out


def _cases(text: str) -> str:
    """Lines that each begin with a value and a colon, as a list."""
    lines = text.split("\n")
    if len(lines) > 1 and CASE.match(lines[0]):
        lines = ["", " " * _indent(lines[1]) + lines[0], *lines[1:]]
    begins = [bool(CASE.match(line)) for line in lines]
    if sum(begins) < max(2, len(re.findall(r'"\w+": ', text))):
        return text  # none, or some within lines
    out = [lines[0]]
    for line, begin in zip(lines[1:], begins[1:], strict=True):
        indent, words = " " * _indent(line), line.lstrip()
        if begin:
            out += ["", f"{indent}- {words}"]
        else:
            out.append(f"{indent}  {words}" if any(begins) else line)
    return "\n".join(out)


def _returns(paragraph: list[str], *, is_first: bool) -> list[str]:
    text = prose("\n".join(paragraph)).split("\n")
    if is_first:
        text[0] = f":returns: {text[0].strip()}"
    return [*text, ""]


def _paragraphs(lines: list[str]) -> list[list[str]]:
    """Runs of lines that are not empty; an example's code stands by itself."""
    found: list[list[str]] = [[]]
    for line in lines:
        was_code = bool(found[-1]) and found[-1][-1].lstrip().startswith((">>>", "..."))
        begins_code = line.lstrip().startswith(">>>") and not was_code
        inside = any(x.lstrip().startswith(">>>") for x in found[-1])
        if not line.strip():
            found.append([])
        elif begins_code and not inside:
            found.append([line])
        else:
            found[-1].append(line)
    return [paragraph for paragraph in found if paragraph]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]):
    if name.startswith("qgenx_jax"):
        lines[:] = converted(lines)
        if what in ("property", "attribute", "data"):
            lines[:] = [line.replace(":", COLON) for line in lines]


def _finish(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]):
    lines[:] = [line.replace(COLON, ":") for line in lines]


def setup(app: Any) -> dict[str, bool]:
    """Before napoleon, whose priority is 500, and after it."""
    app.connect("autodoc-process-docstring", _process, priority=400)
    app.connect("autodoc-process-docstring", _finish, priority=600)
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Fields"
    return {"parallel_read_safe": True}
