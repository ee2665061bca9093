"""Command line: `python -m experiments.cifar10_gan [--field=value ...]`.

`python -m experiments.cifar10_gan compare RUN [RUN ...]` draws runs over each other,
scores and losses over iterations, time and bytes in one figure, and prints their table.
"""

import dataclasses
import os
import sys

from absl import app, flags

from experiments.cifar10_gan.config import Config

_DEFINE = {
    bool: flags.DEFINE_boolean,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}
for _field in dataclasses.fields(Config):
    _DEFINE[type(_field.default)](_field.name, _field.default, _field.metadata["help"])
_OUTPUT = flags.DEFINE_string(
    "output", "compare.png", "of compare: the figure; its table is beside it"
)


def main(argv: list[str]) -> None:
    """Trains with the flags' configuration, or compares."""
    values = {f.name: getattr(flags.FLAGS, f.name) for f in dataclasses.fields(Config)}
    config = Config(**values)
    try:
        if argv[1:2] == ["compare"]:
            from experiments.cifar10_gan.compare import compare

            return compare(argv[2:], _OUTPUT.value)
        if argv[1:]:
            raise ValueError(
                f"arguments must be --field=value or compare RUN ..., got {argv[1:]}; "
                "see --helpfull"
            )
        config.validate()
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import jax

        # one simulated device per worker where there are only CPUs, before JAX starts
        jax.config.update("jax_num_cpu_devices", config.workers)
        from experiments.cifar10_gan import train

        train.train(config)
    except (ValueError, ImportError, FloatingPointError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    app.run(main)
