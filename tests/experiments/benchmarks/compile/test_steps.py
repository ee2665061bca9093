"""The benchmark of compiling runs; what compiling costs is counted, never timed."""

import csv
import re
import subprocess
import sys

import jax
import jax.extend
import pytest

from experiments.benchmarks.compile import steps as benchmark
from tests.lib.helpers import plainly_compiled

PROGRAM = [sys.executable, "-m", "experiments.benchmarks.compile"]
WORKERS = 2


def run(*arguments):
    return subprocess.run(
        [*PROGRAM, "--width=16", "--workers=2", *arguments],
        env=plainly_compiled(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def step_of(name, leaves, kind="update"):
    mean = benchmark.MEANS[name]()
    return benchmark.create_step(mean, kind, leaves, benchmark.LEAST, WORKERS)


def kernels(hlo):
    """The loops of a compiled program, each once, whatever their values are called."""
    found = set()
    for body in re.findall(r"^%\S+ \(.*?^}", hlo, re.DOTALL | re.MULTILINE):
        text = re.sub(r", (metadata|frontend_attributes)=\{[^}]*\}", "", body)
        names = {}
        number = lambda name, names=names: names.setdefault(name[0], f"%{len(names)}")  # noqa: E731
        text = re.sub(r"%[\w.\-]+", number, text)
        found.add(re.sub(r"\(param.*?\) ->|param_[\d.]+: ", "", text))
    return found


@pytest.mark.parametrize("kind", benchmark.KINDS)
def test_the_table_and_its_file(tmp_path, kind):
    done = run(
        "--leaves=10",
        "--exchanges=pmean,exact",
        f"--step={kind}",
        f"--output={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "compile.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["exchange"] for row in rows] == ["pmean", "exact"]
    assert list(rows[0]) == [
        *("step", "leaves", "exchange", "traced s", "compiled s", "/ pmean"),
        *("equations", "instructions", "temporaries"),
    ]
    assert float(rows[0]["/ pmean"]) == 1
    for name in rows[0]:
        assert name in done.stdout


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--leaves=15", "must be multiples of 10"),
        ("--exchanges=3 bits", "must list some of pmean, exact"),
    ],
)
def test_refuses_what_it_cannot_measure(argument, message):
    done = run(argument)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr


@pytest.mark.parametrize("name", benchmark.MEANS)
def test_more_leaves_are_few_more_equations_and_no_more_kernels(name):
    """What holds compile times down: leaves of one shape share their kernels."""
    equations, loops = {}, {}
    for leaves in (20, 40):
        step, given = step_of(name, leaves)
        traced = step.trace(*given)
        equations[leaves] = sum(1 for _ in benchmark.equations(traced.jaxpr.jaxpr))
        loops[leaves] = kernels(traced.lower().compile().as_text())
    each = (equations[40] - equations[20]) / 20
    assert each < 26, f"{each} equations for each leaf; 19 of them are Adam's"
    more = len(loops[40]) - len(loops[20])
    assert more <= 6, f"{more} more kernels for 20 more leaves of the same shapes"


def test_equations_of_inner_programs_count():
    inner = jax.jit(lambda x: x + x * x)
    jaxpr = jax.make_jaxpr(lambda x: inner(x) + 1)(1.0)
    assert sum(1 for _ in benchmark.equations(jaxpr.jaxpr)) == 4
