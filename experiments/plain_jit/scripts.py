"""The two scripts as modules, with other quantizers in them, and their runs."""

import pathlib
import time
import types
from typing import Any

import jax

FOLDER = pathlib.Path(__file__).parent
IN_THE_SCRIPT = "qgenx.uniform(4)"
QUANTIZERS = ("None", "qgenx.uniform(8)", IN_THE_SCRIPT, "qgenx.best(4)")


def script(name: str, quantizer: str = IN_THE_SCRIPT) -> Any:
    """A script's module, with another quantizer in it."""
    source = (FOLDER / f"{name}.py").read_text()
    module = types.ModuleType(name)
    exec(compile(source.replace(IN_THE_SCRIPT, quantizer), name, "exec"), vars(module))
    return module


def run(module: Any, mesh: jax.sharding.Mesh, steps: int) -> tuple[float, list[float]]:
    """CPU seconds to the first step, and the losses of all."""
    jax.clear_caches()
    start, losses = time.process_time(), []
    first = 0.0
    for loss in module.train(mesh, steps):
        losses.append(float(loss))
        first = first or time.process_time() - start
    return first, losses
