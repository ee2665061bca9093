"""How long a half-step of the CIFAR-10 GAN takes, beside the same one in PyTorch.

    python -m experiments.benchmarks.training_step [--model=resnet] [--width=128,32]
        [--batch=16,48] [--threads=2] [--profile] [--shares]

A half-step is the joint dual vector of WGAN-GP on one batch: both losses, the penalty,
both gradients. Both sides have the same weights, batch and threads, take turns in one
process, and are compared first, in float64. PyTorch's has two forms: as training
programs write it, and with one pass of D over the fakes for both players, as ours has.
Ratios are medians over the rounds; "best" is of the fastest rounds, which others on a
shared machine disturb least. Without PyTorch (the extra ``peers``) ours is alone.

``--profile`` splits a half-step into its parts. ``--shares`` times a whole iteration of
the training program for K = 1 beside its operator, codec and optimizer.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from flax import nnx

import qgenx_jax as qgenx
from experiments.cifar10_gan import losses, methods
from experiments.cifar10_gan import step as steps
from experiments.cifar10_gan.config import EXACT, Config
from experiments.cifar10_gan.networks import layers, models, reference_weights
from experiments.cifar10_gan.place import create_place
from experiments.common import tables, timing

_MODEL = flags.DEFINE_enum("model", "resnet", models.NAMES, "the pair")
_WIDTH = flags.DEFINE_list("width", ["128", "32"], "F, one for each case")
_BATCH = flags.DEFINE_list("batch", ["16", "48"], "pictures, one for each case")
_LATENT = flags.DEFINE_integer("latent", 128, "size of a latent vector", 1)
_THREADS = flags.DEFINE_integer("threads", 0, "of both sides; 0: all cores", 0)
_ROUNDS = flags.DEFINE_integer("rounds", 11, "rounds; medians are printed", 1)
_OUTPUT = flags.DEFINE_string("output", "", "also write the first table here, as CSV")
_PROFILE = flags.DEFINE_bool("profile", False, "also the parts of a half-step")
_SHARES = flags.DEFINE_bool("shares", False, "also the shares of an iteration")
_BITS = flags.DEFINE_list("bits", ["4", "8"], "of --shares, per coordinate")

Row = dict[str, Any]
Calls = dict[str, Callable[[], Any]]


class Case:
    """A pair with weights, a batch, and the two sides' half-steps on them."""

    def __init__(self, model: str, width: int, batch: int, latent: int) -> None:
        self.model, self.width, self.size, self.latent = model, width, batch, latent
        made = models.create_pair(model, width=width, latent=latent, rngs=nnx.Rngs(0))
        self.pair = models.split_pair(*made)
        # The reference's deviation goes with a width of 128; see rescale_kernels.
        deviation = layers.DEVIATION * (128 / width) ** 0.5
        self.params = models.rescale_kernels(self.pair.params, deviation)
        keys = jax.random.split(jax.random.key(0))
        pictures = jax.random.uniform(keys[0], (batch, 32, 32, 3), minval=-1.0)
        self.batch = losses.draw_batch(keys[1], pictures, latent=latent)
        self.operator = jax.jit(
            losses.wgan_gp_operator(self.pair.generate, self.pair.criticise)
        )

    def half_step(self) -> tuple[Any, dict[str, jax.Array]]:
        """Our side's."""
        return self.operator(self.params, self.batch)

    def peer(self, torch_side: Any) -> tuple[tuple, tuple]:
        """PyTorch's modules, of the same weights, and tensors of the same batch."""
        weights = reference_weights.to_reference(
            self.model, self.params, width=self.width, latent=self.latent
        )
        modules = torch_side.create_pair(
            self.model, weights, width=self.width, latent=self.latent
        )
        return modules, torch_side.to_tensors(*map(np.asarray, self.batch[:3]))


def load_torch(threads: int) -> Any:
    """The PyTorch side, or None where PyTorch is not installed."""
    try:
        from experiments.benchmarks.peers import torch_wgan_gp
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return None
    torch_wgan_gp.torch.set_num_threads(threads)
    return torch_wgan_gp


def measure(case: Case, torch_side: Any) -> Row:
    """One row of the table of half-steps."""
    calls: Calls = {"ours": case.half_step}
    row: Row = {"model": case.model, "width": case.width, "batch": case.size}
    if torch_side is not None:
        modules, tensors = case.peer(torch_side)
        forms = {"torch": torch_side.half_step}
        forms["torch shared"] = torch_side.shared_half_step
        row["largest deviation"] = deviation(case, torch_side, *forms.values())
        for name, form in forms.items():
            calls[name] = _waited(form, *modules, *tensors)
    seconds = timing.rounds_side_by_side(calls, _ROUNDS.value)
    for name, values in seconds.items():
        row[f"{name} ms"] = 1e3 * float(np.median(values))
    ours = seconds.pop("ours")
    for name, values in seconds.items():
        row[f"ours / {name}"] = float(np.median(ours / values))
        row[f"best / best {name}"] = min(ours) / min(values)
    return row


def deviation(case: Case, torch_side: Any, *forms: Callable) -> float:
    """The largest relative deviation of both losses and all gradient arrays.

    Of an array: the norm of the difference over the norm. An array below 1e-3 of its
    player's gradient is measured against that: one may be a difference of equals. In
    float64, since each rectifier that rounding switches moves a gradient by 1e-3.
    """
    modules, tensors = case.peer(torch_side)
    doubles = [x.double() for x in (*modules, *tensors)]
    found = []
    with jax.enable_x64():
        wide = jax.tree.map(lambda x: x.astype(float), (case.params, case.batch))
        vector, metrics = case.operator(*wide)
        for form in forms:
            for player, loss in zip(methods.PLAYERS, form(*doubles), strict=True):
                found.append(abs(float(metrics[f"loss_{player}"]) / float(loss) - 1))
            gradients = torch_side.gradients(*doubles[:2])
            arrays: dict[str, Any] = dict(zip(methods.PLAYERS, gradients, strict=True))
            expected = reference_weights.from_reference(
                case.model, arrays, width=case.width, latent=case.latent
            )
            for player, tree in expected.items():
                floor = 1e-3 * _norm(tree)
                trees = (vector[player], tree)
                for a, b in zip(*map(jax.tree.leaves, trees), strict=True):
                    found.append(_norm(a - b) / max(_norm(b), floor))
    return float(max(found))


def profile(case: Case, torch_side: Any) -> list[Row]:
    """The parts of a half-step, each compiled on its own, in PyTorch too."""
    generate, criticise = map(jax.jit, (case.pair.generate, case.pair.criticise))
    generator, critic = case.params["generator"], case.params["discriminator"]
    pictures, latents, mixing, _ = case.batch
    fakes = generate(generator, latents)

    def penalty(critic: Any) -> jax.Array:
        args = (case.pair.criticise, pictures, fakes, mixing)
        return losses.gradient_penalty(critic, *args)[0]

    def score(critic: Any, pictures: jax.Array) -> jax.Array:
        return jnp.mean(case.pair.criticise(critic, pictures))

    def picture_sum(generator: Any) -> jax.Array:
        return jnp.sum(case.pair.generate(generator, latents) * pictures)

    both_of_generator = jax.jit(jax.value_and_grad(picture_sum))
    both_of_critic = jax.jit(jax.value_and_grad(score, argnums=(0, 1)))
    both_of_penalty = jax.jit(jax.value_and_grad(penalty))
    ours: Calls = {
        "generator forward": lambda: generate(generator, latents),
        "generator forward and backward": lambda: both_of_generator(generator),
        "discriminator forward": lambda: criticise(critic, pictures),
        "discriminator forward and backward": lambda: both_of_critic(critic, pictures),
        "penalty and its gradient": lambda: both_of_penalty(critic),
        "whole half-step": case.half_step,
    }
    theirs: Calls = {}
    if torch_side is not None:
        modules, tensors = case.peer(torch_side)
        parts = torch_side.parts(*modules, *tensors)
        parts.append(lambda: torch_side.half_step(*modules, *tensors))
        named = zip(ours, parts, strict=True)
        theirs = {f"torch {name}": _waited(part) for name, part in named}
    seconds = timing.seconds_side_by_side({**ours, **theirs}, _ROUNDS.value)
    rows = []
    for name in ours:
        share = seconds[name] / seconds["whole half-step"]
        row = {"part": name, "ours ms": 1e3 * seconds[name], "of the whole": share}
        if theirs:
            row["ours / torch"] = seconds[name] / seconds[f"torch {name}"]
            row["torch ms"] = 1e3 * seconds[f"torch {name}"]
        rows.append(row)
    return rows


def shares(case: Case, bits: int) -> Row:
    """A whole iteration for K = 1, of the training program, and its three pieces."""
    config = Config(
        workers=1, model=case.model, width=case.width, latent=case.latent, bits=bits
    )
    place = create_place(config)
    method = methods.create_method(config, place.axis_name)
    # With an exact exchange, which one worker has nothing to do for, no codec is left.
    exact = dataclasses.replace(config, bits=EXACT)
    bare = methods.create_method(exact, place.axis_name)

    def codec(_: Any, state: Any, vector: Any) -> tuple:
        (mean, *_), state = method.exchange.send(vector, state)
        return mean, state

    def repeated(
        run: Callable[..., tuple], first: list[Any], *inputs: Any
    ) -> Callable[[], Any]:
        carried = [place.replicate(jax.tree.map(jnp.copy, first))]
        inputs = place.place_batch(inputs)

        def call() -> Any:
            *new, _ = run(*carried[0], *inputs)
            carried[0] = new
            return carried

        return call

    def mapped(step: Callable[..., tuple]) -> Callable[..., tuple]:
        run = qgenx.map_workers(step, place.axis_name, mesh=place.mesh, donate=True)
        return lambda *arguments: (*run(*arguments)[:2], None)

    vector = case.half_step()[0]
    one = jax.tree.map(lambda x: np.asarray(x)[None], vector)
    both = jax.tree.map(lambda x: np.stack([x, x])[None], vector)
    real = np.stack([case.batch.pictures] * method.calls)[None]
    training = steps.start(config, method, case.params, place)
    step = steps.create_step(config, case.pair, method, place)
    calls: Calls = {
        "iteration": repeated(
            step, [training], real, np.ones(1, int), np.zeros(1, bool)
        ),
        "operator": case.half_step,
        "codec": repeated(mapped(codec), [case.params, method.exchange.init()], one),
        "optimizer": repeated(
            mapped(bare.iterate(lambda _, vector: (vector, {}))),
            [case.params, bare.optimizer.init(case.params)],
            both,
        ),
    }
    seconds = timing.seconds_side_by_side(calls, _ROUNDS.value)
    for name in ("operator", "codec"):
        seconds[name] *= method.calls
    row: Row = {"width": case.width, "batch": case.size, "bits": bits}
    row |= {f"{name} ms": 1e3 * value for name, value in seconds.items()}
    whole = seconds.pop("iteration")
    return row | {f"{name} / whole": value / whole for name, value in seconds.items()}


def _waited(function: Callable, *args: Any) -> Callable[[], tuple]:
    """A call of PyTorch's, which is over when it returns; it leaves no JAX arrays."""

    def call() -> tuple:
        function(*args)
        return ()

    return call


def _norm(tree: Any) -> float:
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]
    return float(np.sqrt(sum(np.sum(np.square(leaf)) for leaf in leaves)))


def main(argv: list[str]) -> None:
    """Measures all cases."""
    del argv
    widths, batches = ([int(x) for x in f.value] for f in (_WIDTH, _BATCH))
    if len(widths) != len(batches):
        raise app.UsageError(
            f"width and batch must have one entry per case, got {widths} and {batches}"
        )
    threads = timing.keep_to_cores(_THREADS.value)
    torch_side = load_torch(threads)
    print(f"{threads} threads; jax {jax.__version__} on {jax.devices()[0].device_kind}")
    if torch_side is None:
        print("PyTorch is not installed: our side only; pip install '.[peers]'")
    else:
        print(f"torch {torch_side.torch.__version__}, eager")
    cases = [
        Case(_MODEL.value, width, batch, _LATENT.value)
        for width, batch in zip(widths, batches, strict=True)
    ]
    rows = [measure(case, torch_side) for case in cases]
    tables.print_table(rows)
    if _OUTPUT.value:
        tables.write_csv(rows, _OUTPUT.value)
    for case in cases if _PROFILE.value else []:
        print(f"\nparts, width {case.width}, batch {case.size}")
        tables.print_table(profile(case, torch_side))
    if _SHARES.value:
        print("\nan iteration of the training program, K = 1")
        tables.print_table(
            [shares(case, int(bits)) for case in cases for bits in _BITS.value]
        )


if __name__ == "__main__":
    app.run(main)
