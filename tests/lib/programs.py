"""Programs: in a process, or imported, with their flags, one after the other."""

import contextlib
import importlib
import subprocess
import sys

from absl import flags

from tests.lib.helpers import plainly_compiled


def ran(*arguments):
    """What Python prints with these arguments, in a process that has to end well."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env=plainly_compiled(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
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
