"""What a plan of bits, made of vectors while training goes on, asks of the rest."""

from typing import TYPE_CHECKING

from experiments.cifar10_gan.optimizers import ADAMS

if TYPE_CHECKING:
    from experiments.cifar10_gan.config import Config


def check_plan(config: "Config") -> None:
    """Checks that a plan of variances can be made of this configuration's vectors.

    Raises:
        ValueError: for the first field that stands against it.
    """
    for name, only, why in (
        ("n_critic", 1, "vectors of D alone would have a plan of their own"),
        ("processes", 1, "one process would plan for the others"),
        ("collective", "all_gather", "a plan counts the bytes of one phase"),
    ):
        if getattr(config, name) != only:
            raise ValueError(
                f"{name} must be {only!r} with plan={config.plan}, got "
                f"{getattr(config, name)!r}: {why}; take plan=size, or leave it out"
            )
    has_moments = config.optimizer in ADAMS and not config.amsgrad
    if config.plan == "adam" and not has_moments:
        name = config.optimizer + ", amsgrad" * config.amsgrad
        raise ValueError(
            f"plan must not be adam for {name}, which does not divide by the second "
            "moments of Adam that it would weigh by; take variance"
        )
