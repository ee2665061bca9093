"""A matrix game on simplices, to an equilibrium: Kuhn poker, by four players' agents.

    python -m experiments.examples.matrix_game

Each worker sees noisy payoffs; strategies stay on their simplices, by projection or by
the entropy's mirror map. Exploitability is what best responses could win from both.
"""

import jax

import qgenx_jax as qgenx

WORKERS, ITERATIONS = 4, 2000
GAME = qgenx.problems.kuhn_poker()  # 27 strategies against 64; its value is -1/18


def play(projection, gamma0):
    """The average strategies after each of all iterations, and how exploitable."""
    exchange = qgenx.exchange("data", qgenx.uniform(bits=4))
    pair = qgenx.chain(
        qgenx.q_genx(exchange, projection=projection, gamma0=gamma0),
        qgenx.ergodic_average(),
    )
    oracle = GAME.oracle("absolute", 1.0)
    step = qgenx.map_workers(qgenx.iterate(pair, oracle), "data", workers=WORKERS)

    def body(carry, key):
        # for each worker, and each oracle call of an iteration, a key of its own
        carry = step(*carry, jax.random.split(key, (WORKERS, 2)))
        average = qgenx.ergodic_average_params(carry[1])
        return carry, (average, GAME.exploitability(average))

    start = GAME.start, qgenx.init(pair, GAME.start, workers=WORKERS)
    keys = jax.random.split(jax.random.key(0), ITERATIONS)
    return jax.jit(lambda start: jax.lax.scan(body, start, keys)[1])(start)


def main():
    """Prints exploitability, and what row wins; returns curves to draw."""
    print(f"even strategies: exploitability {GAME.exploitability(GAME.start):.4f}")
    mirror = {"row": qgenx.entropic(), "column": qgenx.entropic()}
    ways = (("projection", GAME.projection, 1.0), ("entropic", mirror, 16.0))
    lines = {}
    for name, projection, gamma0 in ways:
        averages, exploitability = play(projection, gamma0)
        worst = (averages["row"][-1] @ GAME.payoff).min()
        print(f"{name}: exploitability {exploitability[-1]:.4f}, row wins {worst:.4f}")
        lines[name] = range(ITERATIONS), exploitability
    return "iteration", "exploitability", lines


if __name__ == "__main__":
    main()
