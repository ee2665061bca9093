"""The check of the built site finds what is broken."""

import importlib.util
import pathlib

import pytest

pytest.importorskip("sphinx", reason="sphinx is in the extra `docs`")
pytestmark = pytest.mark.quick
FILE = pathlib.Path(__file__).parents[2] / ".ci" / "check_site.py"


@pytest.fixture
def check_site():
    spec = importlib.util.spec_from_file_location("check_site", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ('<a href="other.html#here">', None),
        ('<a href="https://example.org/nothing">', None),
        ('<a href="#top"><p id="top">', None),
        ('<a href="gone.html">', "no file gone.html"),
        ('<a href="other.html#gone">', "no anchor other.html#gone"),
        ('<a href="#gone">', "no anchor #gone"),
        ('<img src="gone.png">', "no file gone.png"),
        ('<script src="https://cdn.org/x.js">', "loads https://cdn.org/x.js"),
        ('<link rel="stylesheet" href="//cdn.org/x.css">', "loads //cdn.org/x.css"),
    ],
)
def test_faults(check_site, tmp_path, written, fault):
    (tmp_path / "other.html").write_text('<p id="here">')
    page = tmp_path / "page.html"
    page.write_text(f'<p id="first">{written}')
    assert check_site.faults_of(page) == ([] if fault is None else [fault])


def test_a_site_without_entries_is_refused(check_site, tmp_path, monkeypatch):
    (tmp_path / "theory.html").write_text("<p>")
    monkeypatch.setattr(check_site.sys, "argv", ["check_site", str(tmp_path)])
    with pytest.raises(SystemExit, match="no entry for uniform") as refused:
        check_site.main()
    assert "no entry for Exchange.send" in str(refused.value)
    assert "no formulas" in str(refused.value)
