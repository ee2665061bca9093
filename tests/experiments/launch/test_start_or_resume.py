"""The script of one process: what it starts the program with."""

import json
import subprocess
import sys

import pytest

from tests.lib.launched import START

pytestmark = pytest.mark.quick


def words(tmp_path, *arguments, **variables):
    """What the script would start, by a Python that prints its arguments."""
    python = tmp_path / "python"
    python.write_text(
        f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n"
    )
    python.chmod(0o755)
    done = subprocess.run(
        ["sh", START, *arguments],
        env={"PATH": "/usr/bin:/bin", "PYTHON": str(python), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr


def test_it_starts_a_run_and_goes_on_with_one(tmp_path):
    workdir = tmp_path / "my run"
    flags = ("--preset=paper", "--source=my pictures.npz", "--bits=4")
    program = ["-m", "experiments.cifar10_gan", f"--workdir={workdir}"]
    launched = [*program, "--processes=auto", "--stop_code=75"]
    assert words(tmp_path, str(workdir), *flags) == [*launched, *flags]
    workdir.mkdir()
    assert words(tmp_path, str(workdir), *flags) == [*launched, *flags], "no run yet"
    (workdir / "config.json").write_text("{}")
    found = words(tmp_path, str(workdir), *flags)
    assert found == [*launched, "--resume", *flags[1:]]
    assert words(tmp_path, str(workdir)) == [*launched, "--resume"]
    found = words(tmp_path, str(workdir), PROCESSES="k8s")
    assert found == [*program, "--processes=k8s", "--stop_code=75", "--resume"]


@pytest.mark.parametrize("arguments", [(), ("--bits=4",)])
def test_it_wants_a_folder(tmp_path, arguments):
    assert "must be the folder of the run" in words(tmp_path, *arguments)
