"""Command line: `python -m experiments.cifar10_gan [--preset=...] [--field=value ...]`.

`python -m experiments.cifar10_gan --resume --workdir=RUN` goes on with a run.
`python -m experiments.cifar10_gan compare RUN [RUN ...]` draws runs over each other,
and prints a table of them.
`python -m experiments.cifar10_gan evaluate RUN` scores checkpoints of a run.
"""

import dataclasses
import os
import pathlib
import sys

from absl import app, flags, logging

from experiments.cifar10_gan.config import Config
from experiments.cifar10_gan.fields import check_read
from experiments.cifar10_gan.launchers import placed
from experiments.cifar10_gan.presets import PRESETS, from_preset
from experiments.cifar10_gan.resuming import resumed

_DEFINE = {
    bool: flags.DEFINE_boolean,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}


class _Processes(flags.ArgumentParser):
    """A number of processes, or the name of what has launched them."""

    def parse(self, argument: str | int) -> str | int:
        text = str(argument)
        return int(text) if text.lstrip("-").isdecimal() else text


_QUICK = from_preset("quickstart", {})
for _field in dataclasses.fields(Config):
    _about = _field.name, getattr(_QUICK, _field.name), _field.metadata["help"]
    if _field.name == "processes":
        flags.DEFINE(_Processes(), *_about)
    else:
        _DEFINE[type(_about[1])](*_about)
_PRESET = flags.DEFINE_string(
    "preset",
    "quickstart",
    f"where fields start from: one of {', '.join(PRESETS)}; the defaults that stand "
    "here are those of quickstart",
)
_RESUME = flags.DEFINE_boolean(
    "resume", False, "go on with the run in --workdir, with the fields that it has"
)
_OUTPUT = flags.DEFINE_string(
    "output", "", "of compare: the figure, compare.png; of evaluate: the CSV file"
)
_EVALUATED = {
    "checkpoint": flags.DEFINE_string(
        "checkpoint", "latest", "of evaluate: latest, all, or iterations with commas"
    ),
    "weights": flags.DEFINE_string(
        "weights", "raw,average,ema", "of evaluate: which of the generator's weights"
    ),
    "samples": flags.DEFINE_integer(
        "samples", 10_000, "of evaluate: pictures in a draw; 50000 for fid and isc"
    ),
    "draws": flags.DEFINE_integer("draws", 1, "of evaluate: with other latents each"),
    "fid_weights": flags.DEFINE_string(
        "fid_weights", "", "of evaluate: the file of torch-fidelity's network"
    ),
    "fid_download": flags.DEFINE_boolean(
        "fid_download", False, "of evaluate: lets torch-fidelity fetch its network"
    ),
}
_STOP_CODE = flags.DEFINE_integer(
    "stop_code",
    0,
    "exit code where SIGTERM has stopped and saved the run before its end: 75 for "
    "launchers, which else believe that it has come to it",
    lower_bound=0,
    upper_bound=125,
)
_OF_A_RUN = ("preset", "resume", "stop_code")


def given() -> dict:
    """The fields that stand on the command line."""
    names = [field.name for field in dataclasses.fields(Config)]
    return {n: flags.FLAGS[n].value for n in names if flags.FLAGS[n].present}


def configure() -> Config:
    """The configuration that the command line asks for.

    Raises:
        ValueError: for an unknown preset, a field that the run to resume has not, or a
            launcher that does not say what it has launched.
    """
    fields = placed(given())
    if not _RESUME.value:
        return from_preset(_PRESET.value, fields)
    if flags.FLAGS["preset"].present:
        raise ValueError(
            f"preset must be left out with resume, got {_PRESET.value!r}: the run has "
            "its fields already"
        )
    from experiments.cifar10_gan.workdirs import read_config

    workdir = pathlib.Path(flags.FLAGS.workdir)
    saved = read_config(workdir)
    # without a run in the workdir `train` says so
    return (
        from_preset("quickstart", fields)
        if saved is None
        else resumed({**saved, "workdir": str(workdir)}, fields)
    )


def _refuse_beside(what: str, *names: str) -> None:
    for name in names:
        if flags.FLAGS[name].present:
            raise ValueError(
                f"{name} is not read by {what}, got {flags.FLAGS[name].value!r}; leave "
                "it out"
            )


def _evaluate(arguments: list[str]) -> None:
    """Scores the checkpoints of one run."""
    if len(arguments) != 1:
        raise ValueError(
            f"evaluate must be given the workdir of one run, got {arguments}"
        )
    fields = set(given()) - {"scores"}
    _refuse_beside("evaluate, which reads the run's own", *fields, *_OF_A_RUN)
    _quiet()
    from experiments.cifar10_gan.evaluate import Asked, config_of, evaluate
    from experiments.cifar10_gan.together.starting import start_processes

    asked = {name: flag.value for name, flag in _EVALUATED.items()}
    asked["checkpoints"] = asked.pop("checkpoint")
    if "scores" in given():
        asked["scores"] = flags.FLAGS.scores
    workdir = pathlib.Path(arguments[0])
    start_processes(config_of(workdir))
    evaluate(workdir, Asked(**asked, output=_OUTPUT.value))


def _quiet() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # Orbax tells much at INFO


def main(argv: list[str]) -> None:
    """Trains with the flags' configuration, or compares."""
    try:
        if argv[1:2] == ["compare"]:
            from experiments.cifar10_gan.reporting.compare import compare

            _refuse_beside(
                "compare", *given(), "preset", "resume", "stop_code", *_EVALUATED
            )
            return compare(argv[2:], _OUTPUT.value or "compare.png")
        if argv[1:2] == ["evaluate"]:
            return _evaluate(argv[2:])
        if argv[1:]:
            raise ValueError(
                "arguments must be --field=value, compare RUN ... or evaluate RUN, got "
                f"{argv[1:]}; see --helpfull"
            )
        config = configure()
        config.validate()
        check_read(config, given())
        _refuse_beside("training", "output", *_EVALUATED)
        _quiet()
        from experiments.cifar10_gan import train
        from experiments.cifar10_gan.together.leaving import as_one
        from experiments.cifar10_gan.together.starting import join, start_processes

        with as_one(join(config, resume=_RESUME.value)):
            start_processes(config)
            train.train(config, resume=_RESUME.value, stop_code=_STOP_CODE.value)
    except (ValueError, ImportError, FloatingPointError, TimeoutError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    app.run(main)
