"""The GPU's check list, on a CPU's sizes."""

import pathlib

from experiments.common.processes import ROOT
from tests.lib.programs import imported, ran


def test_a_check_is_run_and_reported(tmp_path):
    command = ("-m", "experiments.gpu_check", "--tiny", f"--output={tmp_path / 'out'}")
    printed = ran(*command, "--only=codec")
    report = (tmp_path / "out" / "report.md").read_text()
    assert "## codec" in report
    assert "exit code 0" in report
    assert "encode / " in report, "the benchmark's table"
    assert "report.md" in printed


def test_the_checks_are_programs_that_are_there():
    with imported("experiments.gpu_check") as program:
        for tiny in (True, False):
            for check in program.checks(pathlib.Path("x"), minutes=5, tiny=tiny):
                module = check.arguments[1].replace(".", "/")
                found = [ROOT / f"{module}{end}" for end in (".py", "/__main__.py")]
                assert any(path.is_file() for path in found), check.name
