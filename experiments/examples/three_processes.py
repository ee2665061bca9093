"""The matrix game across three processes, a worker in each, which talk over gloo.

    python -m experiments.examples.three_processes

Started as it is it starts three of itself, on this machine; on several, start one on
each, by hand: `... three_processes NUMBER HOST:PORT`, with process 0's address.
"""

import sys

import jax

import qgenx_jax as qgenx
from experiments.common import processes

PROCESSES, ITERATIONS = 3, 100
GAME = qgenx.problems.kuhn_poker


def work(number: int, coordinator: str) -> None:
    """One process: all make the same state, and draw keys of their own."""
    jax.distributed.initialize(coordinator, PROCESSES, number)
    mesh, game = jax.make_mesh((PROCESSES,), ("data",)), GAME()
    exchange = qgenx.exchange("data", qgenx.uniform(bits=4))
    method = qgenx.q_genx(exchange, projection=game.projection)
    pair = qgenx.chain(method, qgenx.ergodic_average())
    step = qgenx.iterate(pair, game.oracle("absolute", 1.0), axis_name="data")
    run = qgenx.map_workers(step, "data", mesh=mesh)
    x, state = game.start, qgenx.init(pair, game.start, mesh, "data")
    for key in jax.random.split(jax.random.key(0), ITERATIONS):
        x, state = run(x, state, jax.random.split(key, (PROCESSES, 2)))
    average = qgenx.ergodic_average_params(state)
    sent = method.traffic(game.start, PROCESSES).sent_bytes
    print(f"process {number} of {jax.process_count()}, {sent} bytes an iteration:")
    print(f"exploitability {game.exploitability(average):.6f}")


def main() -> None:
    """Starts the processes, and prints what each of them did."""
    if len(sys.argv) == 3:
        return work(int(sys.argv[1]), sys.argv[2])
    name = "experiments.examples.three_processes"
    return processes.run_numbered(name, PROCESSES)


if __name__ == "__main__":
    main()
