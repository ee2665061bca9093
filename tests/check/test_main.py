"""`python -m qgenx_jax.check`, alone and between processes."""

import importlib
import sys

import pytest

from experiments.common import processes
from tests.lib.programs import ran

command_line = importlib.import_module("qgenx_jax.check.__main__")


def test_as_a_user_starts_it():
    out = ran(
        "-m", "qgenx_jax.check", "--devices=3", "--quantizer=best:2", as_users=True
    )
    assert out.count(" ok ") == 4
    assert "compression " in out


def test_between_processes_with_a_link(tmp_path):
    coordinator = f"127.0.0.1:{processes.free_port()}"
    program = [sys.executable, "-m", "qgenx_jax.check", "--link", "--draws=4"]
    together = [f"--coordinator={coordinator}", "--processes=2"]
    commands = [[*program, *together, f"--process={i}"] for i in range(2)]
    processes.run_together(commands, tmp_path)
    texts = [path.read_text() for path in sorted(tmp_path.iterdir())]
    first = next(text for text in texts if "unbiased" in text)
    assert first.count(" ok ") == 4, first
    assert "2 process(es)" in first
    assert "link=qgenx.Link(latency=" in first
    assert sum("unbiased" in text for text in texts) == 1, "process 0 alone prints"


@pytest.mark.quick
@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--quantizer=nothing:4", "--quantizer must be a quantizer's name"),
        ("--quantizer=uniform:x", "invalid literal"),
        ("--quantizer=uniform:9", "bits must be"),
        ("--mesh=data", "--mesh must be names and sizes"),
        ("--mesh=data:4000", "--mesh must have at most"),
        ("--axis=rows", "must be an axis of the mesh"),
    ],
)
def test_bad_flags_end_with_code_2(flag, message, capsys):
    assert command_line.main([flag]) == 2
    assert message in capsys.readouterr().err
