"""Programs: in a process, or imported, with their flags, one after the other."""

import contextlib
import importlib
import os
import pathlib
import subprocess
import sys

from absl import flags

from tests.lib.helpers import plainly_compiled

ROOT = pathlib.Path(__file__).parents[2]


def ran(*arguments, as_users=False):
    """What Python prints with these arguments, in a process that has to end well.

    Compiled plainly, or as users compile, on a CPU without simulated devices.
    """
    users = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=users if as_users else plainly_compiled(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@contextlib.contextmanager
def imported(name):
    """The module `name`; its flags are gone afterwards, for programs with the same."""
    module = importlib.import_module(name)
    try:
        yield module
    finally:
        for flag in list(flags.FLAGS.flags_by_module_dict().get(name, [])):
            delattr(flags.FLAGS, flag.name)
        sys.modules.pop(name)
