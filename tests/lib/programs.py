"""Programs whose flags are defined when they are imported: one after the other."""

import contextlib
import importlib
import sys

from absl import flags


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
