"""The configuration of a run: typed fields, one check of them all, random keys.

Their own defaults are what `presets` start from. A run is resumed with the fields that
it was started with, but for those of `FREE` and of `RESHARDED`.
"""

import dataclasses
import zlib
from typing import Any, Literal, get_args

import jax
import numpy as np

from experiments.cifar10_gan import optimizers
from experiments.cifar10_gan.data.shares import Share
from experiments.cifar10_gan.networks.models import NAMES
from experiments.cifar10_gan.parsing import parse_numbers, parse_range, parse_scores
from experiments.cifar10_gan.planned import check_plan
from experiments.cifar10_gan.ranges import AT_LEAST, POSITIVE

EXACT = 32
"""The number of bits that stands for an exact float32 exchange."""
Family = Literal["uniform", "exponential", "min_max", "adaptive", "dithered"]
PlanBy = Literal["none", "size", "variance", "adam"]
PLANNED = ("variance", "adam")
"""Plans that are made of vectors, while training goes on."""
FITTED = ("adaptive", "dithered")
"""Families that an exchange fits to what it sends."""
Dtype = Literal["float32", "bfloat16"]
Decay = Literal["constant", "linear", "cosine"]


def _field(default: Any, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass
class Config:
    """Everything that a run depends on; each field is a flag of the program."""

    source: str = _field(
        "embedded",
        "pictures: digits, embedded, a TFDS set such as cifar10, an .npz, or a folder",
    )
    data_dir: str = _field(
        "", "where TFDS data sets are prepared; empty for its default"
    )
    workdir: str = _field(
        "runs/quickstart",
        "folder for CSV, pictures, checkpoints; several processes share it",
    )
    seed: int = _field(0, "of pictures, weights, batches, latents and rounding")
    workers: int = _field(3, "K, over all processes")
    devices: str = _field(
        "auto",
        "auto: the workers share the devices there are, simulated ones on a CPU; "
        "simulated: one CPU device each, also beside a GPU; vmap: all on one device",
    )
    coordinator: str = _field("", "host:port of process 0, where there are several")
    processes: int = _field(1, "that share the workers; auto: as a launcher says")
    process: int = _field(0, "which of them this is")
    wait_seconds: int = _field(300, "at the start, for the other processes to join")
    timeout: int = _field(
        300,
        "seconds without a step after which all processes end; ten times as many for "
        "set-up, compiling and scores",
    )
    iterations: int = _field(
        800, "of the optimizer, n_critic times one or two oracle calls each"
    )
    batch_size: int = _field(16, "pictures per worker and oracle call")
    global_batch: int = _field(
        0,
        "pictures per oracle call of all workers together, shared as evenly as can be "
        "(strong scaling); the run is then the same for every K but for rounding; 0: "
        "batch_size each",
    )
    model: str = _field("dcgan", f"one of {', '.join(NAMES)}")
    width: int = _field(32, "F, filters of the narrowest layers")
    latent: int = _field(128, "size of a latent vector")
    leak: float = _field(0.2, "of D's ReLUs in dcgan; the reference has 0.01")
    dtype: str = _field(
        "float32",
        f"of the networks' layers: one of {', '.join(get_args(Dtype))}; parameters, "
        "moments, dual vectors, norms and losses are float32",
    )
    init_deviation: float = _field(
        0.04, "of the initial kernels; 0.02 goes with width 128"
    )
    bits: int = _field(4, f"per coordinate, 1 to 8, or {EXACT} for an exact exchange")
    family: str = _field("uniform", f"of levels: one of {', '.join(get_args(Family))}")
    adapt: str = _field(
        "",
        "exchanges before which adaptive, and dithered, are fitted: numbers with "
        "commas, or one for every so many; empty: 0,200,1000,5000, every 10,000; "
        "with a plan of variances they are fitted with that",
    )
    plan: str = _field(
        "none",
        f"of bits for each leaf: one of {', '.join(get_args(PlanBy))}; size: leaves up "
        "to 4096 get 8; variance, adam: of the least variance, or of that which Adam "
        "feels, for as many bytes, planned at plan_at",
    )
    plan_at: str = _field(
        "10,100", "iterations after which bits are planned anew, and a step compiled"
    )
    norm: str = _field("inf", "of a bucket: inf, 2 or 1; min_max has none")
    bucket_size: int = _field(1024, "coordinates that share a norm")
    scale_bits: int = _field(32, "of that norm on the wire, 32 or 16")
    rounding: str = _field("correlated", "between workers: correlated, independent")
    exact_leaves: str = _field(
        "small", "which stay exact: small (under 2 axes or 1024 elements) or none"
    )
    collective: str = _field(
        "all_gather",
        "all_gather, quantized once; reduce_scatter, fewer bytes beyond 2 workers, "
        "quantized twice; auto, whichever is faster by qgenx_jax.Link()",
    )
    optimizer: str = _field("extra_adam", f"one of {', '.join(optimizers.NAMES)}")
    learning_rate_generator: float = _field(2e-4, "of Adam's and SGD's kind, for G")
    learning_rate_discriminator: float = _field(1e-3, "of Adam's and SGD's kind, for D")
    decay: str = _field(
        "constant", f"of both learning rates: one of {', '.join(get_args(Decay))}"
    )
    decay_iterations: int = _field(
        800, "after which a rate that decays stays; not those of the run"
    )
    decay_to: float = _field(0.0, "the fraction of itself at which a rate stays")
    n_critic: int = _field(
        1,
        "updates of D for each of G: in all but the last of an iteration G rests, "
        "and nothing of it is computed or sent; not for Q-GenX's joint steps",
    )
    b1: float = _field(0.5, "Adam's decay of first moments, per oracle call")
    b2: float = _field(0.9, "Adam's decay of second moments, per oracle call")
    amsgrad: bool = _field(False, "Adam divides by the largest second moment so far")
    momentum: float = _field(
        0.0, "of SGD, which adds up vectors; decay per oracle call"
    )
    nesterov: bool = _field(False, "that momentum is Nesterov's, as PyTorch has it")
    weight_decay: float = _field(0.0, "times the weights is added to vectors (L2)")
    gamma0_generator: float = _field(
        0.3,
        "scale of Q-GenX's adaptive step sizes, for G; its variants are for monotone "
        "problems: expect them to leave the starting score, and to stay far above "
        "ExtraAdam's (README has a scan)",
    )
    gamma0_discriminator: float = _field(1.0, "the same for D")
    initial_sum: float = _field(
        1.0, "of squares, in those step sizes; more shortens the first steps alone"
    )
    penalty_weight: float = _field(10.0, "of the gradient penalty")
    ema_decay: float = _field(0.99, "of the moving average of G's weights")
    log_every: int = _field(5, "iterations between rows of the CSV")
    score_every: int = _field(100, "iterations between scores and sample grids")
    score_samples: int = _field(1000, "pictures of each kind in a score")
    scores: str = _field(
        "",
        "beside the sliced Wasserstein distance: frechet, kid, or both with a comma, "
        "in the features of EfficientNet-Lite0; quoted from 10,000 samples on",
    )
    checkpoint_every: int = _field(100, "iterations between checkpoints")
    keep_checkpoints: int = _field(2, "how many checkpoints stay")
    check_replicas_every: int = _field(
        0, "iterations between comparisons of all workers' copies, to the bit; 0: none"
    )
    record_vectors: str = _field(
        "",
        "iterations after which a dual vector is written to vectors/, as .npz, and "
        "what its codes could be sent in, to vectors/codes.csv",
    )
    profile: str = _field(
        "", "iterations such as 20-25 of which a trace is written to profile/"
    )
    tensorboard: bool = _field(True, "TensorBoard files too, if TensorFlow is there")
    wandb: str = _field("", "a project of Weights & Biases to log to; empty: none")

    @property
    def share(self) -> Share | None:
        """How workers share a batch; None where each has one of its own."""
        return Share(self.global_batch, self.workers) if self.global_batch else None

    def validate(self) -> None:
        """Checks every field.

        Raises:
            ValueError: for the first field out of its range.
        """
        for name, least in AT_LEAST.items():
            value = getattr(self, name)
            if not value >= least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if not self.seed < 2**32:
            raise ValueError(f"seed must be below 2^32, got {self.seed}")
        for name in ("leak", "penalty_weight", "weight_decay"):
            value = getattr(self, name)
            if not value < float("inf"):
                raise ValueError(f"{name} must be finite, got {value}")
        for name in POSITIVE:
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        for name in ("b1", "b2", "momentum", "ema_decay"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1), got {value}")
        if not 0 <= self.decay_to <= 1:
            raise ValueError(f"decay_to must be in [0, 1], got {self.decay_to}")
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {value!r}")
        self._validate_together()

    def _validate_together(self) -> None:
        if self.bits not in (*range(1, 9), EXACT):
            raise ValueError(
                f"bits must be 1 to 8, or {EXACT} for an exact exchange, "
                f"got {self.bits}"
            )
        if self.family in ("exponential", "adaptive") and self.bits == 1:
            raise ValueError(
                f"bits of the family {self.family} must be at least 2, got 1"
            )
        for name in ("adapt", "plan_at", "record_vectors"):
            parse_numbers(name, getattr(self, name))
        parse_scores(self.scores)
        parse_range("profile", self.profile)
        if self.plan in PLANNED:
            check_plan(self)
        if self.family in ("min_max", "dithered") and self.norm != "inf":
            raise ValueError(
                f"norm must be left at inf for the family {self.family}, "
                f"got {self.norm!r}"
            )
        if self.bits == EXACT and self.collective != "all_gather":
            raise ValueError(
                f"collective must be left out for an exact exchange, got "
                f"{self.collective!r}: that is an all-reduce"
            )
        if 0 < self.global_batch < self.workers:
            raise ValueError(
                f"global_batch must be at least the {self.workers} workers, got "
                f"{self.global_batch}; each needs a picture"
            )
        if self.processes > 1 and not self.coordinator:
            raise ValueError(
                f"coordinator must be given for {self.processes} processes; pass the "
                "host:port at which process 0 can be reached"
            )
        if not 0 <= self.process < self.processes:
            raise ValueError(
                f"process must be in [0, {self.processes}), got {self.process}; give "
                "each process its own number"
            )
        if self.workers % self.processes:
            raise ValueError(
                f"workers must be a multiple of the {self.processes} processes, got "
                f"{self.workers}"
            )
        if self.processes > 1 and self.devices == "vmap":
            raise ValueError(
                "devices must not be vmap for several processes: a worker cannot leave "
                "its process; leave it at auto"
            )


_CHOICES = {
    "model": NAMES,
    "dtype": get_args(Dtype),
    "devices": ("auto", "simulated", "vmap"),
    "family": get_args(Family),
    "plan": get_args(PlanBy),
    "norm": ("inf", "2", "1"),
    "scale_bits": (32, 16),
    "rounding": ("correlated", "independent"),
    "exact_leaves": ("small", "none"),
    "collective": ("all_gather", "reduce_scatter", "auto"),
    "optimizer": optimizers.NAMES,
    "decay": get_args(Decay),
}


def key_of(config: Config, purpose: str) -> jax.Array:
    """The key of the run's seed for a purpose, such as "latents"; no two share one."""
    root = jax.random.key(np.uint32(config.seed))
    return jax.random.fold_in(root, np.uint32(zlib.crc32(purpose.encode())))
