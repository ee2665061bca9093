"""The training program: WGAN-GP by ExtraAdam, dual vectors exchanged in b bits.

One iteration is two half-steps. At each, every worker takes a fresh batch of its own,
computes the joint dual vector (grad_G loss_G, grad_D loss_D), and sends it quantized:

    batch -> operator -> quantized_mean -> extra_adam -> parameters
"""

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import qgenx_jax as qgenx
from experiments.cifar10_gan import data, figures, losses, models, report
from experiments.cifar10_gan.config import EXACT, Config
from experiments.cifar10_gan.evaluate import create_scorer, score_and_sample

AXIS = "data"
HALF_STEPS = 2
COLUMNS = (
    "iteration",
    "seconds",
    "loss_generator",
    "loss_discriminator",
    "wasserstein",
    "penalty",
    "slope",
    "bytes_per_iteration",
    "bytes",
    "score",
    "score_ema",
)


def create_mesh(workers: int) -> Mesh:
    """A mesh with one device per worker.

    On a CPU the devices are simulated; `main` asks for them before JAX starts.

    Raises:
        ValueError: if there are fewer devices than workers.
    """
    devices = jax.devices()
    if len(devices) < workers:
        raise ValueError(
            f"workers must be at most the {len(devices)} {devices[0].platform} devices,"
            f" got {workers}; lower --workers, or simulate them by JAX_PLATFORMS=cpu"
        )
    return jax.make_mesh(
        (workers,), (AXIS,), (AxisType.Auto,), devices=devices[:workers]
    )


def create_optimizer(config: Config) -> tuple[qgenx.Exchange, qgenx.ExtragradientPair]:
    """The exchange that the traffic is counted on, and the whole pair.

    Each player has its own learning rate; the moving average is of all weights.
    """
    quantizer = None
    if config.bits != EXACT:
        quantizer = qgenx.uniform(config.bits, bucket_size=config.bucket_size)
    settings: dict[str, Any] = {"key": config.seed}
    if quantizer is not None:
        settings["exact"] = qgenx.small_leaves
    adam = {
        "generator": config.learning_rate_generator,
        "discriminator": config.learning_rate_discriminator,
    }
    base = optax.partition(
        {
            name: optax.adam(rate, b1=config.b1, b2=config.b2)
            for name, rate in adam.items()
        },
        {name: name for name in adam},
    )
    pair = qgenx.chain(
        qgenx.quantized_mean(AXIS, quantizer, **settings),
        qgenx.extragradient(base),
        qgenx.ema(config.ema_decay),
    )
    return qgenx.exchange(AXIS, quantizer, **settings), pair


def create_step(
    config: Config, pair: models.Pair, optimizer: qgenx.ExtragradientPair, mesh: Mesh
) -> Callable[..., tuple]:
    """`step(params, state, pictures, keys) -> (params, state, metrics)`, on the mesh.

    Pictures are (K, 2, n, 32, 32, 3) and keys (K, 2): one for each worker and
    half-step. Metrics are scalars of shape (K, 2).
    """
    operator = losses.wgan_gp_operator(
        pair.generate, pair.criticise, penalty_weight=config.penalty_weight
    )

    def dual_vector(params: Any, pictures: jax.Array, key: jax.Array) -> tuple:
        batch = losses.draw_batch(key, pictures, latent=config.latent)
        return operator(params, batch)

    step = qgenx.iterate(optimizer, dual_vector, axis_name=AXIS, has_aux=True)
    return qgenx.map_workers(step, AXIS, mesh=mesh, donate=True)


def train(config: Config) -> pathlib.Path:
    """Trains, and leaves in the workdir what there is to see.

    Writes config.json, metrics.csv, curves.png, samples_real.png and samples/*.png, of
    raw and of averaged weights.

    Returns:
        The workdir.

    Raises:
        ValueError: for a configuration that cannot run, or a workdir that holds a run.
        FloatingPointError: as soon as a logged loss is not finite.
    """
    config.validate()
    workdir = prepare_workdir(config)
    pictures = data.load_pictures(
        config.source, data_dir=config.data_dir or None, seed=config.seed
    )
    batches = data.Batches(
        pictures,
        batch_size=config.batch_size,
        workers=config.workers,
        seed=config.seed,
    )
    mesh = create_mesh(config.workers)
    generator, discriminator = models.create_pair(
        config.model,
        width=config.width,
        latent=config.latent,
        rngs=nnx.Rngs(config.seed),
    )
    pair = models.split_pair(generator, discriminator)
    exchange, optimizer = create_optimizer(config)
    params = models.rescale_kernels(pair.params, config.init_deviation)
    params = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    state = qgenx.init(optimizer, params, mesh, AXIS)
    step = create_step(config, pair, optimizer, mesh)
    traffic = exchange.traffic(params, config.workers)
    announce(config, params, traffic)
    root = jax.random.key(config.seed)
    scorer = create_scorer(config, pair, jax.random.fold_in(root, 0))
    figures.sample_grid(scorer.real[:64], workdir / "samples_real.png")

    progress = report.Progress(config.iterations, every_seconds=5.0)
    bytes_per_iteration = HALF_STEPS * traffic.sent_bytes
    start = time.monotonic()
    with report.CsvWriter(workdir / "metrics.csv", COLUMNS) as csv:
        score_and_sample(csv, scorer, params, state, 0, workdir)
        for iteration in range(1, config.iterations + 1):
            real = np.stack([next(batches) for _ in range(HALF_STEPS)], axis=1)
            key = jax.random.fold_in(root, iteration)
            keys = jax.random.split(key, (config.workers, HALF_STEPS))
            params, state, metrics = step(params, state, real, keys)
            if iteration % config.log_every == 0 or iteration == config.iterations:
                means = {name: float(jnp.mean(x)) for name, x in metrics.items()}
                check_finite(means, iteration)
                csv.write(
                    {
                        "iteration": iteration,
                        "seconds": round(time.monotonic() - start, 3),
                        "bytes_per_iteration": bytes_per_iteration,
                        "bytes": iteration * bytes_per_iteration,
                        **means,
                    }
                )
                progress.update(
                    iteration,
                    loss_G=means["loss_generator"],
                    loss_D=means["loss_discriminator"],
                    penalty=means["penalty"],
                )
            if iteration % config.score_every == 0 or iteration == config.iterations:
                score_and_sample(csv, scorer, params, state, iteration, workdir)
    label = "exact" if config.bits == EXACT else f"{config.bits} bits"
    figures.plot_curves(workdir / "metrics.csv", workdir / "curves.png", title=label)
    print(f"samples and curves are in {workdir}")
    return workdir


def prepare_workdir(config: Config) -> pathlib.Path:
    """Makes the workdir and saves the configuration there.

    Raises:
        ValueError: if it cannot be written, or holds the metrics of another run.
    """
    workdir = pathlib.Path(config.workdir)
    if (workdir / "metrics.csv").exists():
        raise ValueError(
            f"workdir must not hold a run already, got {str(workdir)!r}; remove it or "
            "pass another --workdir"
        )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        text = json.dumps(dataclasses.asdict(config), indent=2) + "\n"
        (workdir / "config.json").write_text(text)
    except OSError as error:
        raise ValueError(
            f"workdir must be a folder that can be written, got {str(workdir)!r} "
            f"({error}); pass another --workdir"
        ) from error
    return workdir


def check_finite(means: dict[str, float], iteration: int) -> None:
    """Stops a run that has diverged.

    Raises:
        FloatingPointError: naming the losses that are not finite and the iteration.
    """
    bad = {name: value for name, value in means.items() if not np.isfinite(value)}
    if bad:
        raise FloatingPointError(
            f"not finite at iteration {iteration}: {bad}; lower the learning rates"
        )


def announce(config: Config, params: Any, traffic: qgenx.Traffic) -> None:
    """Prints what is about to run: sizes, devices and bytes per iteration."""
    sizes = {name: models.count(tree) for name, tree in params.items()}
    full = -(-2 * (config.workers - 1) * 4 * traffic.coordinates // config.workers)
    ratio = full / max(traffic.sent_bytes, 1)
    print(
        f"{config.workers} workers on {jax.devices()[0].platform} devices, "
        f"{config.batch_size} pictures each, {config.source} pictures\n"
        f"{config.model} of width {config.width}: {sizes['generator']:,} and "
        f"{sizes['discriminator']:,} parameters\n"
        f"each worker sends {HALF_STEPS * traffic.sent_bytes:,} bytes per iteration by "
        f"{traffic.collective}, {traffic.bits_per_coordinate:.2f} bits per coordinate; "
        f"a float32 all-reduce sends {ratio:.2f} times as much",
        flush=True,
    )
