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
    """The average strategies after all iterations."""
    exchange = qgenx.exchange("data", qgenx.uniform(bits=4))
    pair = qgenx.chain(
        qgenx.q_genx(exchange, projection=projection, gamma0=gamma0),
        qgenx.ergodic_average(),
    )
    oracle = GAME.oracle("absolute", 1.0)
    step = qgenx.map_workers(qgenx.iterate(pair, oracle), "data", workers=WORKERS)

    def body(carry, key):
        # for each worker, and each oracle call of an iteration, a key of its own
        return step(*carry, jax.random.split(key, (WORKERS, 2))), None

    start = GAME.start, qgenx.init(pair, GAME.start, workers=WORKERS)
    keys = jax.random.split(jax.random.key(0), ITERATIONS)
    (_, state), _ = jax.jit(lambda start: jax.lax.scan(body, start, keys))(start)
    return qgenx.ergodic_average_params(state)


def main() -> None:
    """Prints exploitability, and what row wins against its best response."""
    print(f"even strategies: exploitability {GAME.exploitability(GAME.start):.4f}")
    mirror = {"row": qgenx.entropic(), "column": qgenx.entropic()}
    ways = (("projection", GAME.projection, 1.0), ("entropic", mirror, 16.0))
    for name, projection, gamma0 in ways:
        x = play(projection, gamma0)
        worst = (x["row"] @ GAME.payoff).min()
        exploitability = GAME.exploitability(x)
        print(f"{name}: exploitability {exploitability:.4f}, row wins {worst:.4f}")


if __name__ == "__main__":
    main()
