"""README's examples run as they stand and do what it says; what it names is there."""

import pathlib
import re

import pytest

import qgenx_jax as qgenx
from tests.lib.programs import ran

quick = pytest.mark.quick
ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
FLAGS = re.DOTALL | re.MULTILINE
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, FLAGS)
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "experiments").rglob("README.md")),
]
of_documents = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS]
)
SET_UP = (
    "    python3 -m venv .venv && .venv/bin/pip install -q -e '.[{extras}]' && {then}"
)
MAIN_JOB = SET_UP.format(
    extras="experiments", then=".venv/bin/python -m experiments.cifar10_gan"
)
TESTS = SET_UP.format(
    extras="experiments,dev", then=".venv/bin/python -m pytest -n auto"
)


def printed_by(block):
    """What an example prints, in a process of its own that ends well."""
    return ran("-c", block, as_users=True).splitlines()


def falls(word, lines, factor):
    """Two lines that end in a number, the second one many times smaller."""
    assert len(lines) == 2, lines
    assert all(word in line for line in lines), lines
    first, last = (float(line.split()[-1]) for line in lines)
    assert 0 <= last * factor < first, lines


def test_400_steps_across_three_devices_lower_the_loss():
    lines = printed_by(BLOCKS[0])
    assert [line.partition(":")[0] for line in lines] == ["step 1", "step 400"]
    falls("loss", lines, 20)


def test_the_average_closes_the_gap_of_the_game():
    falls("gap", printed_by(BLOCKS[1]), 20)


def test_fewer_bits_are_fewer_bytes_and_seconds():
    rows = [line.split() for line in printed_by(BLOCKS[2])]
    assert [row[0] for row in rows] == ["None", "8", "4"]
    assert [row[1] for row in rows] == ["exact", "reduce_scatter", "reduce_scatter"]
    exact, eight, four = (int(row[2]) for row in rows)
    assert exact == pytest.approx(2 * 2 / 3 * 4 * 4096 * 1024)  # bytes of a ring
    assert 3.9 * eight < exact < 4 * eight
    assert 7.8 * four < exact < 8 * four
    seconds = [float(row[3]) for row in rows]
    assert seconds == sorted(seconds, reverse=True)


@quick
def test_there_are_three_examples_and_all_are_run():
    assert len(BLOCKS) == 3


@quick
def test_it_is_short():
    assert len(README.split()) <= 1200


@quick
def test_set_up_is_two_lines():
    lines = README.splitlines()
    assert [line for line in lines if "-m venv" in line] == [MAIN_JOB, TESTS]
    # .ci/run runs the first line that mentions it
    assert next(line for line in lines if "-m pytest" in line) == TESTS


@quick
def test_every_public_name_is_in_its_room_once():
    rooms = dict(re.findall(r"^\| `(\w+)` \| .* \| (`.*`) \|$", README, re.MULTILINE))
    where = {
        name: room
        for room, names in rooms.items()
        for name in names[1:-1].split("`, `")
    }
    named = sum(names.count("`") // 2 for names in rooms.values())
    assert named == len(where), "a name is there twice"
    assert set(where) == {name for name in vars(qgenx) if not name.startswith("_")}
    for name, room in where.items():
        found = getattr(qgenx, name)
        module = getattr(found, "__module__", getattr(found, "__name__", ""))
        assert f"{module}.".startswith(f"qgenx_jax.{room}."), f"{name} is in {module}"


@quick
@of_documents
def test_files_that_are_named_exist(document):
    text = document.read_text()
    folders = "tests|experiments|docs|qgenx_jax"
    paths = re.findall(rf"(?<![\w/.-])(?:{folders})/[\w./-]*\w", text)
    missing = [path for path in paths if not (ROOT / path).exists()]
    missing = [path for path in missing if "NAME" not in path]  # of what one adds
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    missing += [link for link in links if not (document.parent / link).exists()]
    assert not missing


@quick
@of_documents
def test_programs_that_are_named_exist(document):
    for module in re.findall(r"-m\s+(experiments[\w.]*\w)", document.read_text()):
        path = ROOT.joinpath(*module.split("."))
        program = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        assert program.exists(), module
        assert '__name__ == "__main__"' in program.read_text(), module


@quick
def test_every_promise_names_what_shows_it():
    text = (ROOT / "docs/evidence.md").read_text()
    table = text.partition("| promise | shown by |")[2].partition("\n\n")[0]
    rows = table.splitlines()[2:]
    assert len(rows) > 20
    for row in rows:
        assert re.search(r"\| `(tests/|python -m )\S+.*\|$", row), row
