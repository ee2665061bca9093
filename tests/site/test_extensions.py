"""What the site adds to Sphinx: formulas, signatures, rooms, pages, examples."""

import pathlib

import pytest

import qgenx_jax as qgenx

pytest.importorskip("sphinx", reason="sphinx is in the extra `docs`")

from docs.extensions import elsewhere, gallery, mathml, names, rooms, signatures

pytestmark = pytest.mark.quick
ROOT = pathlib.Path(__file__).parents[2]


def test_formulas_are_mathml_and_what_is_none_is_refused():
    made = mathml.mathml(r"\frac{|x|}{2}", "inline")
    assert made.startswith("<math")
    assert "<mfrac>" in made
    assert made.count('lspace="0em"') == 2
    for wrong in (r"\nosuchcommand{x}", r"\Bigl\| x \Bigr\|"):
        with pytest.raises(ValueError, match="no MathML"):
            mathml.mathml(wrong, "block")


def test_signatures_name_types_as_the_source_does():
    arguments, returns = signatures.of_function(qgenx.q_genx)
    assert arguments.startswith("(axis_name: AxisName | Exchange, quantizer:")
    assert "step_size: StepSizeLike=None" in arguments
    assert returns == "ExchangingPair"
    assert signatures.of_class(qgenx.Link).startswith("(latency: float = 3e-05,")
    assert signatures.of_class(qgenx.OracleFree) == ""
    arguments, _ = signatures.of_function(qgenx.Exchange.send)
    assert arguments.startswith("(tree: DualVector, state: ExchangeState,")


def test_every_public_name_is_in_a_room_that_has_a_page():
    shown = rooms.rooms()
    names = [name for of_room in shown.values() for name in of_room]
    assert len(names) == len(set(names))
    namespaces = ("problems", "bounds", "entropy", "check")
    expected = {x for x in vars(qgenx) if not x.startswith("_") and x not in namespaces}
    for space in namespaces:
        inner = rooms.public(getattr(qgenx, space))
        expected |= {f"{space}.{name}" for name in inner}
    assert set(names) == expected
    pages = [path.read_text() for path in (ROOT / "docs" / "api").glob("*.md")]
    for room in shown:
        assert sum(f".. room:: {room}\n" in page for page in pages) == 1, room


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("uniform", "uniform"),
        ("Exchange.send", "Exchange.send"),
        ("Problem.oracle", "problems.Problem.oracle"),
        ("bounds.exact_variance", "bounds.exact_variance"),
        ("exact_variance", None),
        ("optax.chain", None),
    ],
)
def test_names_in_running_text_are_found(written, name):
    assert names.public_name(written) == name


def test_links_of_an_included_file_lead_where_they_did(tmp_path):
    docs, other = tmp_path / "docs", tmp_path / "experiments"
    docs.mkdir()
    other.mkdir()
    (tmp_path / "README.md").write_text("# All\n")
    (docs / "index.md").write_text("# First\n")
    (docs / "page.md").write_text("```{include} ../experiments/README.md\n```\n")
    (docs / "other.md").write_text(
        "[it](../experiments/README.md#a), [all](../README.md)"
    )
    text = "[here](../docs/other.md) [code](run.py) [web](https://a.b) ![p](p.png)\n"
    (other / "README.md").write_text(text + "```\n[in](run.py)\n```\n")
    for name in ("run.py", "p.png"):
        (other / name).touch()
    page, link = docs / "page.md", docs / "other.md"
    assert elsewhere.expanded(page.read_text(), page, docs) == (
        "[here](other.md) [code](../experiments/run.py) [web](https://a.b) "
        "![p](../experiments/p.png)\n```\n[in](run.py)\n```\n\n"
    )
    expanded = elsewhere.expanded(link.read_text(), link, docs)
    assert expanded == "[it](page.md#a), [all](index.md)"


def test_an_example_is_run_once_and_a_failure_says_so(tmp_path):
    folder = gallery.place_of("own_losses", tmp_path)
    assert folder == gallery.place_of("own_losses", tmp_path)
    assert folder != gallery.place_of("matrix_game", tmp_path)
    folder.mkdir(parents=True)
    (folder / "own_losses.txt").write_text("as before")
    gallery.run("own_losses", folder)
    assert (folder / "own_losses.txt").read_text() == "as before"
    with pytest.raises(RuntimeError, match="the example no_such_one failed"):
        gallery.run("no_such_one", tmp_path / "else")
