"""The WGAN-GP of experiments/cifar10_gan, as workers of the network benchmark."""

from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax
from jax.sharding import AxisType, Mesh

import qgenx_jax as qgenx
from experiments.cifar10_gan import methods
from experiments.cifar10_gan import step as steps
from experiments.cifar10_gan.config import EXACT, Config, key_of
from experiments.cifar10_gan.networks import models
from experiments.cifar10_gan.place import AXIS, Place

COMPUTE = "compute"


def prepare(
    bits: str, collective: str, model: str, width: int, batch: int
) -> tuple[Callable[[], Any], dict[str, Any]]:
    """One iteration of ExtraAdam, as the training program compiles it.

    Args:
        bits: per coordinate, or "exact", "bf16", or "compute": an iteration of this
            process alone, with nothing to exchange.
        collective: of a quantized exchange.
        model: of the pair.
        width: of the pair.
        batch: pictures per worker and oracle call.

    Returns:
        A call that does an iteration, and facts: `coordinates` of the dual vector,
        `exchanges` in an iteration, `sent_bytes` of a worker in one.
    """
    quantized = bits.isdigit()
    devices = jax.local_devices() if bits == COMPUTE else jax.devices()
    config = Config(
        workers=len(devices),
        bits=int(bits) if quantized else EXACT,
        collective=collective if quantized else "all_gather",
        model=model,
        width=width,
        batch_size=batch,
    )
    place = Place(AXIS, Mesh(np.array(devices), (AXIS,), (AxisType.Auto,)), None)
    method = methods.create_method(config, AXIS)
    if bits == "bf16":
        method = in_bf16(config, method)
    made = models.create_pair(
        model,
        width=width,
        latent=config.latent,
        rngs=nnx.Rngs(key_of(config, "weights")),
    )
    pair = models.split_pair(*made)
    params = models.rescale_kernels(pair.params, config.init_deviation)
    sent = method.traffic(params, len(devices)).sent_bytes
    facts = {
        "coordinates": models.count(params),
        "exchanges": method.calls,
        "sent_bytes": sent // 2 if bits == "bf16" else sent,
    }
    step = steps.create_step(config, pair, method, place)
    training = [steps.start(config, method, params, place)]
    rng = np.random.default_rng(jax.process_index())
    here = len(place.local_workers(len(devices)))
    pictures = rng.uniform(-1, 1, (here, method.calls, batch, 32, 32, 3))
    inputs = pictures.astype(np.float32), np.ones(here, int), np.zeros(here, bool)
    inputs = place.place_batch(inputs)

    def iterate() -> Any:
        training[0], _ = step(training[0], *inputs)
        return training[0]

    return iterate, facts


def in_bf16(config: Config, exact: methods.Method) -> methods.Method:
    """ExtraAdam with means of dual vectors in bfloat16, as one would write them."""

    def mean(updates: Any, _: Any) -> Any:
        narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), updates)
        means = lax.pmean(narrow, AXIS)
        return jax.tree.map(lambda x: x.astype(jnp.float32), means)

    rates = {
        "generator": config.learning_rate_generator,
        "discriminator": config.learning_rate_discriminator,
    }
    adams: dict[Hashable, Any] = {
        player: optax.adam(rate, b1=config.b1, b2=config.b2)
        for player, rate in rates.items()
    }
    adam = optax.partition(adams, {player: player for player in rates})
    pair = qgenx.chain(optax.stateless(mean), qgenx.extragradient(adam))

    def iterate(dual_vector: methods.DualVector) -> Callable[..., tuple]:
        return qgenx.iterate(pair, dual_vector, axis_name=AXIS, has_aux=True)

    return exact._replace(optimizer=pair, iterate=iterate)
