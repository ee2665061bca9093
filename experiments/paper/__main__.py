"""The paper's figure 1: scores at several precisions over iterations, time and bytes.

    .venv/bin/python -m experiments.paper figure1 --size=minutes [--seeds=0,1,2]
    sudo .venv/bin/python -m experiments.paper figure1 --size=minutes --rate=100mbit
    .venv/bin/python -m experiments.paper figure1 --size=paper -- --processes=3
        --process=0 --coordinator=host0:1234

Trains a WGAN-GP on CIFAR-10 across 3 workers by each method and seed, one run after the
other; what is there already is kept, and a run that was stopped goes on. Then draws
`figure1.png`, and prints a table of seconds and bytes to a score (`figure1.csv`).

Workers are simulated devices of this machine; with --rate, processes in network
namespaces that links of that rate join (root); on several hosts, start the same command
on each, with the flags of the GAN program behind `--` that say which it is.
"""

import contextlib
import pathlib

from absl import app, flags

from experiments.benchmarks.network import namespaces
from experiments.benchmarks.network.links import Links, bits_per_second
from experiments.common import arguments
from experiments.paper import figure
from experiments.paper.methods import DEFAULT, METHODS, SIZES
from experiments.paper.methods import arguments as flags_of
from experiments.paper.runs import Planned, RunFailed, do_all

_SIZE = flags.DEFINE_enum("size", "minutes", list(SIZES), "of the runs")
_METHODS = flags.DEFINE_list("methods", list(DEFAULT), f"some of {', '.join(METHODS)}")
_SEEDS = flags.DEFINE_list("seeds", ["0"], "of each method")
_RATE = flags.DEFINE_string("rate", "", "of links between namespaces; empty: none")
_FOLDER = flags.DEFINE_string("folder", "runs/figure1", "of the runs and the figure")
_ITERATIONS = flags.DEFINE_integer("iterations", 0, "of each run; 0: the size's", 0)
_ONLY_DRAW = flags.DEFINE_boolean("only_draw", False, "what is there, and run nothing")


def planned(given: list[str]) -> list[Planned]:
    """The runs that the flags ask for.

    Raises:
        app.UsageError: for a flag that cannot be.
    """
    size = SIZES[_SIZE.value]
    seeds = arguments.whole_numbers("seeds", _SEEDS.value, 0, 2**32 - 1)
    names = arguments.names("methods", _METHODS.value, list(METHODS))
    folder = pathlib.Path(_FOLDER.value) / _SIZE.value
    if _RATE.value:
        folder = folder.with_name(f"{folder.name}_{_RATE.value}")
    from experiments.cifar10_gan.presets import PRESETS

    usual = {**PRESETS[size.preset], **size.fields}["iterations"]
    iterations = _ITERATIONS.value or usual
    given = [*given, *([f"--iterations={iterations}"] if _ITERATIONS.value else [])]
    return [
        Planned(
            name,
            seed,
            folder.resolve() / f"{name}_{seed}",
            flags_of(METHODS[name], size, given),
            iterations,
        )
        for seed in seeds
        for name in names
    ]


def main(argv: list[str]) -> None:
    """Does what is left, then draws."""
    if argv[1:2] != ["figure1"]:
        raise app.UsageError(f"the command must be figure1, got {argv[1:2]}")
    runs = planned(argv[2:])
    if _RATE.value:
        try:
            bits_per_second(_RATE.value)
        except ValueError as error:
            raise app.UsageError(str(error)) from error
    if not _ONLY_DRAW.value:
        with contextlib.ExitStack() as stack:
            links = None
            if _RATE.value:
                try:
                    namespaces.check_possible()
                except namespaces.NotPossible as error:
                    raise SystemExit(f"{error}; leave out --rate") from error
                namespaces.sweep()
                stack.enter_context(namespaces.terminated_as_interrupted())
                links = stack.enter_context(Links(3))
                links.limit(_RATE.value)
            try:
                do_all(runs, links)
            except RunFailed as error:
                raise SystemExit(str(error)) from error
    found = figure.groups_of(runs)
    if not found:
        raise SystemExit(
            f"no run is in {runs[0].workdir.parent}; leave out --only_draw"
        )
    try:
        figure.write(found, SIZES[_SIZE.value].column, runs[0].workdir.parent)
    except ValueError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    arguments.run(main)
