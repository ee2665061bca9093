"""Pages of docs/: their code runs, prints what they say, and links lead somewhere."""

import pathlib
import re

import pytest

from tests.lib.programs import ran

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MOST_QUOTED = 12
"""Blocks of code that cannot run here: of other libraries, side by side with ours."""


def blocks_of(page):
    """(language, mark, text) of each fence."""
    return [
        (language, mark.strip(), text)
        for language, mark, text in FENCE.findall(page.read_text())
    ]


def code_of(page):
    """The code of a page from its beginning, but for what is quoted."""
    blocks = blocks_of(page)
    return "\n".join(
        text for kind, mark, text in blocks if (kind, mark) == ("python", "")
    )


def of_pages(pages):
    return pytest.mark.parametrize(
        "page", pages, ids=[str(page.relative_to(DOCS)) for page in pages]
    )


def agree(said, printed):
    """Words are equal, whole numbers too, others within a tenth."""
    number = r"-?\d+\.\d+(?:e[-+]?\d+)?"
    assert re.sub(number, "#", said) == re.sub(number, "#", printed)
    pairs = zip(re.findall(number, said), re.findall(number, printed), strict=True)
    for one, other in pairs:
        assert float(other) == pytest.approx(float(one), rel=0.1), (said, printed)


@of_pages([page for page in PAGES if code_of(page)])
def test_the_code_of_a_page_runs_and_prints_what_it_says(page):
    printed = ran("-c", code_of(page), as_users=True)
    said = "".join(text for kind, _, text in blocks_of(page) if kind == "text")
    if said:
        agree(said, printed)


@pytest.mark.quick
def test_few_blocks_are_marked_as_not_to_be_run():
    marks = [mark for page in PAGES for kind, mark, _ in blocks_of(page) if mark]
    assert set(marks) <= {"quoted"}
    assert len(marks) <= MOST_QUOTED


@pytest.mark.quick
@pytest.mark.parametrize(
    ("said", "printed"),
    [("loss 0.50", "loss 0.60"), ("loss 0.5", "gap 0.5"), ("3 bytes", "4 bytes")],
)
def test_other_outputs_are_told_apart(said, printed):
    agree(said, said)
    with pytest.raises(AssertionError):
        agree(said, printed)


@pytest.mark.quick
@of_pages(PAGES)
def test_tests_that_are_named_exist(page):
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text()):
        assert f"\ndef {name}(" in (ROOT / path).read_text(), f"{path}::{name}"


@pytest.mark.quick
@pytest.mark.parametrize("name", ["theory", "paper"])
def test_every_part_names_what_shows_it(name):
    text = (DOCS / f"{name}.md").read_text()
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        if not part.startswith("What departs"):
            assert re.search(r"`tests/[\w/]+\.py", part), part.partition("\n")[0]


def anchors_of(text):
    """Of headings, as they are made here and by hosts of repositories."""
    text = FENCE.sub("", text)
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.quick
@pytest.mark.parametrize(
    "document",
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_anchors_of_links_are_headings(document):
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)", document.read_text())
    for path, anchor in links:
        target = document.parent / path if path else document
        assert anchor in set(anchors_of(target.read_text())), (path, anchor)
