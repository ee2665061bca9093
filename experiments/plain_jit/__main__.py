"""Losses of the script before and after, by bits, and the time to its first step.

    python -m experiments.plain_jit [--steps=200] [--model=1] [--data=4]

`--model=2` cuts the dense layers over a second axis of the mesh. The script after is
run with other quantizers in place of `qgenx.uniform(4)`. The time to the first step, of
all threads, is that of tracing and compiling, as good as all of it.
"""

import os

import jax
from absl import app, flags, logging
from jax.sharding import AxisType

from experiments.common.tables import print_table
from experiments.plain_jit.scripts import QUANTIZERS, run, script

FLAGS = flags.FLAGS
flags.DEFINE_integer("steps", 200, "Steps of each run, 10 to warm up.", lower_bound=11)
flags.DEFINE_integer("data", 4, "Workers, simulated devices of a CPU.", lower_bound=1)
flags.DEFINE_integer("model", 1, "Devices that a worker's model is cut over.")


def main(_: list[str]) -> None:
    """Runs all, and prints the table."""
    logging.set_verbosity(logging.WARNING)
    sizes = (FLAGS.data, FLAGS.model)
    devices = jax.devices()[: FLAGS.data * FLAGS.model]
    kinds = (AxisType.Auto, AxisType.Auto)
    mesh = jax.make_mesh(sizes, ("data", "model"), kinds, devices=devices)
    scripts = {"before": script("before")}
    scripts |= {f"after, {q}": script("after", q) for q in QUANTIZERS}
    rows, plain = [], 0.0
    run(scripts["before"], mesh, 11)  # what is loaded once
    for name, module in scripts.items():
        seconds, losses = run(module, mesh, FLAGS.steps)
        plain = plain or seconds
        every = max(1, FLAGS.steps // 4)
        ends = [sum(losses[i : i + every]) / every for i in range(0, 4 * every, every)]
        quarters = {f"quarter {i + 1}": loss for i, loss in enumerate(ends)}
        row = {"script": name, **quarters, "first step, CPU s": seconds}
        rows.append({**row, "over before": seconds / plain})
        print(f"{name}: done", flush=True)
    print(f"{FLAGS.data} workers, a model on {FLAGS.model}: mean loss, nats a byte")
    print_table(rows)


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    app.run(main)
