"""A flag that nothing reads is refused."""

import ast
import dataclasses
import pathlib

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import cifar10_gan
from experiments.cifar10_gan.config import Config
from experiments.cifar10_gan.fields import READ_IF
from tests.lib.programs import imported

pytestmark = pytest.mark.quick

UNREAD = [
    *(["--optimizer=dual_extrapolation", f"--{name}=0.5"] for name in ("b1", "b2")),
    ["--optimizer=sgd", "--b1=0.5"],
    ["--optimizer=sgd", "--b2=0.5"],
    ["--optimizer=optimistic", "--learning_rate_generator=0.5"],
    ["--optimizer=dual_averaging", "--learning_rate_discriminator=0.5"],
    ["--optimizer=optimistic", "--n_critic=1"],
    ["--optimizer=dual_averaging", "--n_critic=5"],
    ["--optimizer=dual_extrapolation", "--decay=cosine"],
    ["--decay_iterations=10"],
    ["--optimizer=optimistic", "--decay_iterations=10"],
    ["--decay=constant", "--decay_to=0.1"],
    ["--optimizer=extra_sgd", "--amsgrad"],
    ["--momentum=0.9"],
    ["--optimizer=omd", "--momentum=0.9"],
    ["--optimizer=sgd", "--nesterov"],
    ["--optimizer=optimistic", "--weight_decay=0.1"],
    ["--gamma0_generator=0.1"],
    ["--optimizer=sgd", "--gamma0_discriminator=0.1"],
    ["--initial_sum=1"],
    ["--global_batch=48", "--batch_size=16"],
    ["--model=resnet", "--leak=0.01"],
    ["--bits=32", "--family=uniform"],
    ["--bits=32", "--norm=2"],
    ["--adapt=100"],
    ["--bits=32", "--plan=size"],
    ["--plan=size", "--plan_at=100"],
    ["--family=min_max", "--norm=inf"],
    ["--bits=32", "--bucket_size=512"],
    ["--family=min_max", "--scale_bits=16"],
    ["--bits=32", "--rounding=independent"],
    ["--bits=32", "--exact_leaves=none"],
    ["--bits=32", "--collective=all_gather"],
    ["--data_dir=elsewhere"],
    ["--source=pictures.npz", "--data_dir=elsewhere"],
    ["--coordinator=host:1"],
    ["--process=0"],
    ["--wait_seconds=9"],
    ["--output=figure.png"],
    ["compare", "run", "--bits=8"],
    ["compare", "run", "--preset=paper"],
]
READ = [
    ["--leak=0.01"],
    ["--optimizer=dual_extrapolation", "--gamma0_generator=0.1"],
    ["--optimizer=sgd", "--learning_rate_generator=0.5"],
    ["--optimizer=extra_sgd", "--momentum=0.9", "--nesterov", "--weight_decay=0.1"],
    ["--optimizer=optimistic_adam", "--amsgrad", "--weight_decay=0.1"],
    ["--optimizer=omd", "--weight_decay=0.1"],
    ["--optimizer=sgd", "--decay=linear", "--decay_iterations=9", "--decay_to=0.1"],
    ["--optimizer=adam", "--n_critic=5", "--decay=cosine"],
    ["--optimizer=optimistic", "--dtype=bfloat16"],
    ["--preset=paper", "--optimizer=optimistic"],
    ["--preset=paper", "--bits=32"],
    ["--family=adaptive", "--adapt=0,100"],
    ["--plan=variance", "--plan_at=100"],
    ["--bits=8", "--family=min_max", "--bucket_size=64"],
    ["--bits=2", "--family=adaptive", "--scale_bits=16", "--rounding=independent"],
    ["--source=cifar10", "--data_dir=elsewhere"],
    ["--processes=3", "--process=0", "--coordinator=host:1"],
]


@pytest.fixture
def ended(monkeypatch):
    """How the program ends that is stopped where it would begin to train."""

    def stop(config, resume):
        raise ValueError("nothing was refused")

    monkeypatch.setattr("experiments.cifar10_gan.together.starting.join", stop)

    def end(arguments):
        with (
            imported("experiments.cifar10_gan.__main__") as program,
            flagsaver.flagsaver(),
        ):
            flags.FLAGS.unparse_flags()
            left = flags.FLAGS(["program", *arguments])
            with pytest.raises(SystemExit) as error:
                program.main(left)
        return str(error.value)

    return end


@pytest.mark.parametrize("arguments", UNREAD, ids=" ".join)
def test_what_is_given_and_not_read_is_refused(arguments, ended):
    name = arguments[-1].removeprefix("--").split("=")[0]
    assert f"ValueError: {name} is " in ended(arguments)


@pytest.mark.parametrize("arguments", READ, ids=" ".join)
def test_what_is_read_is_not(arguments, ended):
    assert ended(arguments) == "ValueError: nothing was refused"


def test_every_field_is_read_by_name_somewhere():
    """And the table, each of whose fields is refused above, names fields."""
    folder = pathlib.Path(cifar10_gan.__file__).parent
    files = [
        path
        for path in folder.rglob("*.py")
        if path.name not in ("config.py", "presets.py", "fields.py")
    ]
    read = {
        node.attr
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
    }
    names = {field.name for field in dataclasses.fields(Config)}
    assert names <= read, "fields that nothing reads"
    assert set(READ_IF) <= names
    refused = {a[-1].removeprefix("--").split("=")[0] for a in UNREAD}
    assert set(READ_IF) <= refused, "give each an example above"
