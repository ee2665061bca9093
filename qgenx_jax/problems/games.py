"""Operators of differentiable games from the losses of their players."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from qgenx_jax import _checks
from qgenx_jax._types import DualVector, Params


def game_operator(
    losses: Mapping[str, Callable[..., Any]], *, has_aux: bool = False
) -> Callable[..., Any]:
    """The joint operator of a game: each player's gradient of its own loss.

        A(x) = (grad_{x_1} loss_1(x), ..., grad_{x_n} loss_n(x))

    Its zeros are the stationary points of the game. For min_x max_y f the losses are
    {"x": f, "y": -f}, and A = (grad_x f, -grad_y f) is monotone if f is convex-concave.

    Args:
        losses: for each player a function `loss(params, *batch) -> scalar` of the joint
            parameters, a mapping from the same players to their parameters.
        has_aux: whether each loss returns (scalar, aux).

    Returns:
        `operator(params, *batch) -> dual vector`, a mapping as the params are; with
        `has_aux`, (dual vector, dict of (loss, aux) by player).

    Raises:
        ValueError: if there is no player; when called, if the players of the parameters
            are others than those of the losses, or a loss is not one real number.

    Example:
        >>> import jax.numpy as jnp, qgenx_jax as qgenx
        >>> f = lambda params: params["x"] * params["y"]
        >>> operator = qgenx.game_operator({"x": f, "y": lambda params: -f(params)})
        >>> vector = operator({"x": 2.0, "y": 3.0})
        >>> float(vector["x"]), float(vector["y"])
        (3.0, -2.0)

    References:
        Gidel et al., A Variational Inequality Perspective on Generative Adversarial
        Networks, ICLR 2019, section 2.
    """
    if not isinstance(losses, Mapping) or not losses:
        raise _checks.refuse(
            "losses",
            "must be a mapping with at least one player",
            losses,
            'pass for instance {"generator": loss_g, "discriminator": loss_d}',
        )
    losses = dict(losses)
    for player, loss in losses.items():
        what = "of the joint parameters and a batch"
        _checks.function(f"losses[{player!r}]", loss, what, "pass the player's loss")

    def operator(params: Params, *batch: Any) -> DualVector:
        if not isinstance(params, Mapping) or set(params) != set(losses):
            found = list(params) if isinstance(params, Mapping) else type(params)
            raise _checks.refuse(
                "params",
                f"must be a mapping with exactly the players {sorted(losses)}",
                found,
                "give each player's parameters under its name",
            )
        _checks.inexact_leaves("params", params)
        # mappings of the parameters' own type, so that vectors have their structure
        kind: Any = type(params)
        vector, values = {}, {}
        for player in params:

            def own_loss(own: Any, player: str = player) -> Any:
                result = losses[player](kind({**params, player: own}), *batch)
                return _checked_loss(player, result, has_aux)

            values[player], vector[player] = jax.value_and_grad(
                own_loss, has_aux=has_aux
            )(params[player])
        return (kind(vector), values) if has_aux else kind(vector)

    return operator


def with_aux(name: str, result: Any) -> tuple[Any, Any]:
    """What a function returned that is to return (value, aux).

    Raises:
        ValueError: if it is not a tuple of two.
    """
    if not isinstance(result, tuple) or len(result) != 2:
        rule = "must return a tuple (value, aux) where has_aux is True"
        found = _checks.Text(type(result).__name__)
        raise _checks.refuse(name, rule, found, "return both, or drop has_aux")
    return result


def _checked_loss(player: str, result: Any, has_aux: bool) -> Any:
    name = f"losses[{player!r}]"
    value = with_aux(name, result)[0] if has_aux else result
    rule = "must return one real, floating-point number"
    dtype = getattr(value, "dtype", None)
    if dtype is None or value.shape or not jnp.issubdtype(dtype, jnp.floating):
        is_array = dtype is not None
        found = _checks.Text(jax.typeof(value) if is_array else type(value).__name__)
        way_out = "take a mean over the batch, and has_aux=True for further results"
        raise _checks.refuse(name, rule, found, way_out)
    return result
