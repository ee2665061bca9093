"""Kills a training run at random moments, resumes it, and compares the end to the bit.

    python -m experiments.checks.kill_and_resume --kills=10

runs the program once undisturbed, and once killed (SIGKILL) that many times, each time
resumed. The last checkpoints must have the same bits, and the CSV files the same rows
but for the seconds. Exits with 1 if they have not.
"""

import argparse
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from experiments.cifar10_gan.data.pictures import draw_pictures
from experiments.common import tables

SMALL = (
    "--width=4",
    "--batch_size=4",
    "--latent=16",
    "--score_samples=16",
    "--log_every=2",
    "--score_every=20",
    "--checkpoint_every=5",
    "--notensorboard",
)
QUICKLY = "--xla_backend_optimization_level=0"
"""Of XLA: programs that run for a moment are compiled in less time."""
if jax.__version_info__ < (0, 11):  # XLA ends the process at a flag it does not know
    QUICKLY += " --xla_cpu_use_fusion_emitters=false"


def save_pictures(path: pathlib.Path) -> str:
    """A source of few pictures: drawing the embedded ones is most of a short run."""
    train, test = (draw_pictures(256, seed=0, stream=stream) for stream in (0, 1))
    np.savez(path, train=train, test=test)
    return f"--source={path}"


def start(workdir: pathlib.Path, iterations: int, cache: pathlib.Path, source: str):
    """The program, resumed if there is something to resume, in a session of its own."""
    command = [sys.executable, "-m", "experiments.cifar10_gan", f"--workdir={workdir}"]
    if (workdir / "config.json").exists():
        command += ["--resume"]
    else:
        command += [f"--iterations={iterations}", source, *SMALL]
    environment = {
        **os.environ,
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {QUICKLY}",
        # a restart should not compile again what was compiled before
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return subprocess.Popen(
        command,
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process) -> None:
    """Waits for the program, which must end well."""
    _, errors = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the program ended with {process.returncode}:\n{errors}")


def last_checkpoint(workdir: pathlib.Path) -> tuple[int, list[np.ndarray]]:
    """Its iteration and its arrays."""
    with ocp.CheckpointManager((workdir / "checkpoints").resolve()) as manager:
        step = manager.latest_step()
        arrays = ocp.args.Composite(arrays=ocp.args.StandardRestore())
        restored = manager.restore(step, args=arrays)
    leaves = jax.tree.leaves(restored.arrays)
    typed = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    return step, [
        np.asarray(jax.random.key_data(leaf) if t else leaf)
        for leaf, t in zip(leaves, typed, strict=True)
    ]


def rows(workdir: pathlib.Path) -> list[dict[str, str]]:
    """Those of the metrics, without their seconds."""
    apart = {"seconds": "", "seconds_in_all": ""}
    return [{**row, **apart} for row in tables.read_csv(workdir / "metrics.csv")]


def last_row(workdir: pathlib.Path) -> int:
    """The iteration of the last whole row; -1 before there is one."""
    path = workdir / "metrics.csv"
    lines = path.read_text().split("\n")[1:-1] if path.exists() else []
    return int(lines[-1].split(",")[0]) if lines else -1


def kill_and_resume(
    folder: pathlib.Path, *, kills: int, iterations: int, seed: int
) -> list[tuple[int, int, int | None]]:
    """Runs both, and compares them.

    Returns:
        For each kill, the iterations of the last row before and after this start, and
        that of the last checkpoint.

    Raises:
        AssertionError: if they differ.
    """
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    rest = iterations, folder / "cache", save_pictures(folder / "pictures.npz")
    finish(start(undisturbed, *rest))
    moments = random.Random(seed)
    history = []
    for row in sorted(moments.choices(range(iterations), k=kills)):
        process, begun = start(killed, *rest), last_row(killed)
        while process.poll() is None and last_row(killed) < row:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.2))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        complete = [
            int(path.name)
            for path in (killed / "checkpoints").glob("*")
            if path.name.isdigit()
        ]
        history.append((begun, last_row(killed), max(complete, default=None)))
    finish(start(killed, *rest))
    (step, expected), (last, actual) = map(last_checkpoint, (undisturbed, killed))
    assert step == last == iterations, f"ended at {step} and {last}, not {iterations}"
    assert len(expected) == len(actual) > 20, "another number of arrays"
    for index, (a, b) in enumerate(zip(actual, expected, strict=True)):
        same = a.dtype == b.dtype and a.tobytes() == b.tobytes()
        assert same, f"array {index} differs in its bits: {np.abs(a - b).max()}"
    assert rows(killed) == rows(undisturbed), "the CSV files differ"
    return history


def main() -> None:
    """Kills, compares and says when it killed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 3)  # what the program saved its arrays on
    with tempfile.TemporaryDirectory() as folder:
        history = kill_and_resume(
            pathlib.Path(folder),
            kills=options.kills,
            iterations=options.iterations,
            seed=options.seed,
        )
    for number, (begun, row, checkpoint) in enumerate(history, start=1):
        when = "in set-up" if row <= begun else f"after row {row}"
        print(f"kill {number}: {when}, last checkpoint {checkpoint}")
    print(f"{options.kills} kills: the last checkpoints are equal bit for bit")


if __name__ == "__main__":
    main()
