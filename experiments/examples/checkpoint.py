"""Orbax: saved, restored on as many workers to the same bits, and on another number.

python -m experiments.examples.checkpoint
"""

import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

import qgenx_jax as qgenx

PROBLEM = qgenx.problems.quadratic_game(20)
# the optimistic variant keeps each worker's last vector: a state below `per_worker`
PAIR = qgenx.q_genx("data", qgenx.uniform(bits=4), variant="optimistic")
STEP = qgenx.iterate(PAIR, PROBLEM.oracle("multiplicative"), axis_name="data")


def go_on(params, state, workers, iterations):
    """Iterations first, first + 1, ..., each with keys of its own."""
    run = qgenx.map_workers(STEP, "data", workers=workers)
    for index in iterations:
        key = jax.random.fold_in(jax.random.key(0), index)
        params, state = run(params, state, jax.random.split(key, (workers, 1)))
    return params, state


def distance(params):
    """From the solution."""
    return jnp.linalg.norm(params - PROBLEM.solution)


def main():
    """Prints the distance of the run, and of the two that went on from its file."""
    params = jnp.zeros_like(PROBLEM.solution)
    begin = params, qgenx.init(PAIR, params, workers=4)
    print(f"at the start {distance(begin[0]):.6f}")
    middle = go_on(*begin, 4, range(20))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "step_20"
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(path, middle)
        # a new process makes the target as it made the start: shapes and places alone
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, begin)
        with ocp.StandardCheckpointer() as checkpointer:
            params, state = checkpointer.restore(path, target)
    undisturbed, _ = go_on(*middle, 4, range(20, 60))
    same, _ = go_on(params, state, 4, range(20, 60))
    print(f"4 workers, undisturbed {distance(undisturbed):.6f}")
    print(f"4 workers, restored {distance(same):.6f}")
    print(f"the same bits: {np.array_equal(undisturbed, same)}")
    fewer, _ = go_on(params, qgenx.reshard(state, workers=3), 3, range(20, 60))
    print(f"3 workers, restored {distance(fewer):.6f}")


if __name__ == "__main__":
    main()
