"""What a release says of itself agrees: version, date, licence, workflows."""

import pathlib
import re

import pytest
import yaml

import qgenx_jax as qgenx

pytestmark = pytest.mark.quick
ROOT = pathlib.Path(__file__).parents[2]
GITHUB = sorted((ROOT / ".github").rglob("*.yml"))


def test_changelog_and_citation_have_the_version():
    newest = re.search(
        r"^## (\S+) - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert newest is not None
    assert newest[1] == qgenx.__version__ == citation["version"]
    assert newest[2] == str(citation["date-released"])
    assert citation["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_workflows_and_templates_are_read():
    assert {path.stem for path in GITHUB} >= {"ci", "site", "release", "bug", "wish"}
    for path in GITHUB:
        text = yaml.safe_load(path.read_text())
        if path.parent.name == "workflows":
            steps = [step for job in text["jobs"].values() for step in job["steps"]]
            runs = [step["run"] for step in steps if "run" in step]
            assert ".ci/run" in runs or path.stem == "site"
            assert text["permissions"]["contents"] == "read"


def test_what_workflows_run_is_there():
    for path in GITHUB:
        for file in re.findall(r"(?<!\S)\.ci/\w+(?:\.py)?", path.read_text()):
            assert (ROOT / file).is_file(), file
