"""Operators of games: each player's gradient of its own loss."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]

X = np.ones(3, np.float32)


def test_game_operator_is_each_players_gradient_of_its_own_loss():
    losses = {
        "g": lambda p, s: s * jnp.sum(p["g"] * p["d"] ** 2),
        "d": lambda p, s: jnp.sum(p["d"] ** 3 * p["g"]) + s,
    }
    params = {"g": jnp.array([1.0, 2.0]), "d": jnp.array([3.0, -1.0])}
    vector = qgenx.game_operator(losses)(params, 2.0)
    np.testing.assert_allclose(vector["g"], 2 * params["d"] ** 2)
    np.testing.assert_allclose(vector["d"], 3 * params["d"] ** 2 * params["g"])
    with_aux = {k: lambda p, s, f=f, k=k: (f(p, s), k) for k, f in losses.items()}
    vector, values = qgenx.game_operator(with_aux, has_aux=True)(params, 2.0)
    np.testing.assert_allclose(vector["g"], 2 * params["d"] ** 2)
    np.testing.assert_allclose(values["d"][0], losses["d"](params, 2.0))
    ordered = collections.OrderedDict(params)
    vector = qgenx.game_operator(losses)(ordered, 2.0)
    assert jax.tree.structure(vector) == jax.tree.structure(ordered)
    with pytest.raises(
        ValueError, match=r"exactly the players \['d', 'g'\], got \['g'"
    ):
        qgenx.game_operator(losses)({"g": jnp.ones(2)}, 1.0)


def game(loss, params=None, **options):
    given = {"a": X} if params is None else params
    return qgenx.game_operator({"a": loss}, **options)(given)


ROWS = {
    "no players": (
        lambda: qgenx.game_operator([lambda p: 0.0]),
        r"losses must be a mapping with at least one player, got \[.*: pass for inst",
    ),
    "a loss that is none": (
        lambda: game(1.0),
        r"losses\['a'\] must be a function of .*, got 1.0: pass the player's loss",
    ),
    "a loss of a vector": (
        lambda: game(lambda p: p["a"]),
        r"losses\['a'\] must return one real, .*, got float32\[3\]: take a mean",
    ),
    "a loss of None": (
        lambda: game(lambda p: None),
        r"losses\['a'\] must return one real, .*, got NoneType: take a mean",
    ),
    "a loss with aux": (
        lambda: game(lambda p: (p["a"].sum(), 1)),
        r"losses\['a'\] must return one real, .*, got tuple: .* has_aux=True",
    ),
    "a loss without aux": (
        lambda: game(lambda p: p["a"].sum(), has_aux=True),
        r"losses\['a'\] must return a tuple .*, got \w+: return both, or drop has_aux",
    ),
    "players of integers": (
        lambda: game(lambda p: 0.0, {"a": 1}),
        r"leaf \['a'\] of params must be a floating-point array, got int32: cast it",
    ),
    "other players": (
        lambda: game(lambda p: 0.0, {"b": X}),
        r"params must be a mapping with exactly the players \['a'\], got \['b'\]: give",
    ),
}


@pytest.mark.parametrize(
    ("make", "message"), [pytest.param(*row, id=name) for name, row in ROWS.items()]
)
def test_is_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()
