"""One iteration on every worker: batches, dual vectors, exchange, averages."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import qgenx_jax as qgenx
from experiments.cifar10_gan import losses, methods
from experiments.cifar10_gan.config import Config, key_of
from experiments.cifar10_gan.networks import models
from experiments.cifar10_gan.place import Place


class Averages(NamedTuple):
    """Averages of G's weights w_0, w_1, ..., w_n after n iterations.

    Attributes:
        uniform: (w_0 + ... + w_n) / (n + 1).
        moving: e_n = decay e_{n-1} + (1 - decay) w_n, with e_0 = w_0.
    """

    uniform: qgenx.ErgodicAverageState
    moving: qgenx.EmaState

    @classmethod
    def start(cls, weights: Any) -> "Averages":
        """Before the first iteration: the initial weights count, too."""
        uniform = qgenx.ErgodicAverageState.start(weights).add(weights)
        return cls(uniform, qgenx.EmaState.start(weights))

    def add(self, weights: Any, decay: float) -> "Averages":
        """With one more iteration's weights."""
        return Averages(self.uniform.add(weights), self.moving.add(weights, decay))


class Training(NamedTuple):
    """All that changes in training: what a checkpoint holds.

    Attributes:
        params: {"generator": ..., "discriminator": ...}.
        averages: of the generator's weights.
        state: the optimizer's.
    """

    params: dict[str, Any]
    averages: Averages
    state: Any


def start(
    config: Config, method: methods.Method, params: Any, place: Place
) -> Training:
    """The beginning of a run, laid out over the workers."""
    params = place.replicate(params)
    axis_name = None if place.mesh is None else place.axis_name
    state = qgenx.init(
        method.optimizer, params, place.mesh, axis_name, workers=place.workers
    )
    first = jax.jit(Averages.start)(params["generator"])
    return Training(params, place.replicate(first), state)


def shapes_of_workers(
    training: Training, method: methods.Method, place: Place, workers: int
) -> Training:
    """Shapes of a training that so many workers left, all of it on every device."""
    shapes = jax.eval_shape(lambda: training.params)
    state = qgenx.init(method.optimizer, shapes, workers=workers)
    return place.replicated_shapes(training._replace(state=state))


def reshard(training: Training, place: Place, workers: int) -> Training:
    """A training that so many workers left, laid out over the workers that are here."""
    axis_name = None if place.mesh is None else place.axis_name
    return qgenx.reshard(
        training, place.mesh, axis_name, workers=place.workers, from_workers=workers
    )


def replan(training: Training, after: methods.Method, place: Place) -> Training:
    """A training that goes on with another exchange, whose key it keeps."""
    key = methods.exchange_state(training.state).key
    fresh = place.replicate(after.exchange.init())._replace(key=key)

    def is_exchange(node: Any) -> bool:
        return isinstance(node, qgenx.ExchangeState)

    state = jax.tree.map(
        lambda node: fresh if is_exchange(node) else node,
        training.state,
        is_leaf=is_exchange,
    )
    return training._replace(state=state)


def create_step(
    config: Config, pair: models.Pair, method: methods.Method, place: Place
) -> Callable[..., tuple[Training, dict[str, jax.Array]]]:
    """`step(training, pictures, iteration, measured) -> (training, metrics)`.

    Pictures are (K, calls, n, 32, 32, 3). `iteration`, (K,) and the same for all,
    enters the keys of latents and penalty coefficients with the worker and the call, so
    a step depends on nothing but its arguments. `measured`, (K,) and the same for all,
    says whether the quantization error is wanted. Metrics are scalars of shape
    (K, calls), or (K, those calls that know them): the generator's loss and the norm of
    its vector are not computed where it rests. The buffers of `training` are reused.
    """
    settings = {"penalty_weight": config.penalty_weight}
    joint = losses.wgan_gp_operator(pair.generate, pair.criticise, **settings)
    parts = losses.wgan_gp_losses(pair.generate, pair.criticise, **settings)
    critic = methods.CRITIC
    operators = {
        methods.PLAYERS: joint,
        (critic,): losses.operator_of(critic, parts[critic]),
    }
    root, exchange = key_of(config, "latents"), _measuring(method.exchange)
    share = config.share

    def dual_vector(
        params: Any,
        pictures: jax.Array,
        key: jax.Array,
        measured: jax.Array,
        now: qgenx.ExchangeState,
        *,
        players: tuple[str, ...] = methods.PLAYERS,
    ) -> tuple[Any, dict[str, jax.Array]]:
        batch_key, error_key = jax.random.split(key)
        if share is None:
            batch = losses.draw_batch(batch_key, pictures, latent=config.latent)
        else:
            worker = lax.axis_index(place.axis_name)
            facts = share.start(worker), share.weights(worker)
            batch = losses.draw_numbered(
                batch_key, pictures, *facts, latent=config.latent
            )
        vector, metrics = operators[players](params, batch)
        norms = {f"vector_norm_{p}": optax.tree.norm(vector[p]) for p in vector}
        errors = _errors(exchange, vector, now, error_key, measured, place.axis_name)
        return vector, {**metrics, **norms, **errors}

    calls = method.calls_of_update

    def program(iterate: methods.Iterate) -> Callable[..., tuple]:
        """An update on all workers, with the calls from `first` on of an iteration."""
        update, is_last = iterate(dual_vector), iterate is method.iterate

        def worker(
            replicated: tuple,
            state: Any,
            pictures: jax.Array,
            iteration: jax.Array,
            measured: jax.Array,
            first: jax.Array,
        ) -> tuple:
            params, mean = replicated
            key = jax.random.fold_in(root, iteration)
            if share is None:  # else draws go by pictures' numbers in the whole batch
                key = jax.random.fold_in(key, lax.axis_index(place.axis_name))
            inputs = pictures, jax.random.split(key, method.calls)
            if method.ahead:
                inputs = jax.tree.map(
                    lambda x: lax.dynamic_slice_in_dim(x, first, calls), inputs
                )
            facts = jax.tree.map(
                lambda x: jnp.broadcast_to(x, (calls, *x.shape)),
                (measured, _rounded_by(exchange, methods.exchange_state(state))),
            )
            params, state, metrics = update(params, state, *inputs, *facts)
            if is_last:
                mean = mean.add(params["generator"], config.ema_decay)
            return (params, mean), state, metrics

        return qgenx.map_workers(
            worker,
            place.axis_name,
            mesh=place.mesh,
            workers=place.workers,
            donate=True,
        )

    # one program for each kind of update, and not one for all: that would take as many
    # times as long to compile, or with a loop, in which XLA's CPU backend is slow on
    # convolutions (25 times at width 32), to run
    updates = (*method.ahead, method.iterate)
    programs = {iterate: program(iterate) for iterate in set(updates)}
    firsts: dict[int, jax.Array] = {}

    def step(training: Training, *inputs: Any) -> tuple[Training, dict]:
        replicated, state = (training.params, training.averages), training.state
        seen = []
        for index, iterate in enumerate(updates):
            if index not in firsts:  # once: the loop sends nothing but batches
                firsts[index] = jnp.full_like(inputs[1], index * calls)
            first = firsts[index]
            replicated, state, metrics = programs[iterate](
                replicated, state, *inputs, first
            )
            seen.append(metrics)
        params, mean = replicated
        return Training(params, mean, state), _joined(seen) if seen[1:] else seen[0]

    return step


@jax.jit
def _joined(seen: list[dict[str, jax.Array]]) -> dict[str, jax.Array]:
    """Metrics of several updates as one of (K, calls); some are of the last alone."""
    return {
        name: jnp.concatenate([each[name] for each in seen if name in each], axis=1)
        for name in seen[-1]
    }


def _measuring(exchange: qgenx.Exchange) -> qgenx.Exchange:
    """The exchange, with the levels that it is given."""
    fixed = {
        group: of and dataclasses.replace(of, refresh=None)
        for group, of in exchange.quantizers.items()
    }
    return dataclasses.replace(exchange, quantizers=fixed)


def _rounded_by(
    exchange: qgenx.Exchange, state: qgenx.ExchangeState
) -> qgenx.ExchangeState:
    """The levels of a state, and a key that its own exchange does not use."""
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), 1)
    return exchange.init()._replace(key=jax.random.key_data(key), levels=state.levels)


def _errors(
    exchange: qgenx.Exchange,
    vector: Any,
    state: qgenx.ExchangeState,
    own_key: jax.Array,
    measured: jax.Array,
    axis_name: str,
) -> dict[str, jax.Array]:
    """Relative errors of a vector and of the mean; 0 where they are not measured.

        quantization_error   ||Q(v) - v||_2 / ||v||_2
        mean_error           ||m - mean v||_2 / ||mean v||_2, m what an exchange gives

    with roundings of their own, by the levels that the update began with. The exact
    mean is a float collective as large as the vector, in the branch that is taken
    where they are measured.
    """

    def relative(found: Any, exact: Any) -> jax.Array:
        norm = optax.tree.norm(exact)
        off = optax.tree.norm(optax.tree.sub(found, exact))
        return jnp.where(norm > 0, off / norm, 0.0)

    def errors(vector: Any) -> jax.Array:
        own = exchange.quantize(vector, state._replace(key=own_key))
        mean, _ = exchange.mean(vector, state)
        exact = lax.pmean(vector, axis_name)
        return jnp.stack([relative(own, vector), relative(mean, exact)])

    def nothing(vector: Any) -> jax.Array:
        return jnp.stack([0 * optax.tree.norm(vector)] * 2)

    # alike on all workers, and known to be: they meet in the branch
    on_all = lax.pmin(measured.astype(jnp.int32), axis_name) == 1
    found = lax.cond(on_all, errors, nothing, vector)
    return {"quantization_error": found[0], "mean_error": found[1]}


@jax.jit
def summarize(metrics: dict[str, jax.Array], training: Training) -> dict[str, Any]:
    """Means over workers and calls, norms of the weights, and the step size if any."""
    means = {name: jnp.mean(values) for name, values in metrics.items()}
    for player, weights in training.params.items():
        means[f"param_norm_{player}"] = optax.tree.norm(weights)
    gamma = optax.tree.get(training.state, "gamma")
    known = methods.exchange_state(training.state).adaptation
    if known is not None and list(known.predicted) == ["all"]:
        means["predicted_error"] = jnp.sqrt(known.predicted["all"])
    return means if gamma is None else {**means, "gamma": gamma}


def check_finite(row: Mapping[str, float], iteration: int) -> None:
    """Stops a run that has diverged.

    Raises:
        FloatingPointError: naming what is not finite and the iteration.
    """
    bad = {name: float(x) for name, x in row.items() if not np.isfinite(x)}
    if bad:
        raise FloatingPointError(
            f"not finite at iteration {iteration}: {bad}; checkpoints and samples stay "
            "as they are; try lower learning rates or more bits, in another --workdir"
        )
