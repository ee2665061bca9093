"""What an exchange in few bits costs a transformer: loss over steps, beside exact.

    python -m experiments.transformer [--exchanges=exact,uniform2,best2] [--steps=200]
        [--layers=6 --width=384] [--record=1,50,150] [--output=FOLDER]

A decoder of bytes (10.8 million parameters) learns the sources of Python's library,
K = 4 workers, Adam after the mean of their gradients. Each exchange is a run from the
same parameters, with the same batches. `loss` is the mean of the last tenth of the
steps, nats a byte; `gap` what losses are above those of the exact run, the mean over
all steps, and `+-` its standard error, by the means of ten steps each (an
optimistic one, as neighbours are not independent); `error`
that of the mean, ‖mean Q(g_k) - mean g_k‖ / ‖mean g_k‖, over the last tenth; `bytes`
what a worker's payload takes. FOLDER gets summary.csv, losses.csv and losses.png, and,
with --record, vectors/ for `python -m experiments.levels`.
"""

import pathlib
import platform

import jax
import numpy as np
from absl import app, flags

import qgenx_jax as qgenx
from experiments.common import arguments, figures, tables
from experiments.transformer import exchanges
from experiments.transformer.text import library_sources
from experiments.transformer.training import AXIS, Row, Setting, train

_DEFAULT = Setting()
_EXCHANGES = flags.DEFINE_list(
    "exchanges",
    ["exact", "uniform8", "uniform4", "best4", "uniform2", "best2"],
    "exact; uniform, adaptive or best, and bits",
)
_STEPS = flags.DEFINE_integer("steps", _DEFAULT.steps, "of each run", lower_bound=1)
_WORKERS = flags.DEFINE_integer("workers", _DEFAULT.workers, "K", lower_bound=2)
_SEQUENCES = flags.DEFINE_integer(
    "sequences", _DEFAULT.sequences, "of a worker's batch", lower_bound=1
)
_LENGTH = flags.DEFINE_integer(
    "length", _DEFAULT.length, "bytes of a sequence", lower_bound=2
)
_LAYERS = flags.DEFINE_integer("layers", _DEFAULT.layers, "blocks", lower_bound=1)
_WIDTH = flags.DEFINE_integer(
    "width", _DEFAULT.width, "of the model; 64 to a head", lower_bound=64
)
_RATE = flags.DEFINE_float("rate", _DEFAULT.rate, "of Adam", lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 0, "of parameters, batches, rounding")
_RECORD = flags.DEFINE_list(
    "record", [], "steps after which a gradient is recorded, of the first exchange"
)
_OUTPUT = flags.DEFINE_string("output", "", "folder for tables, figure and gradients")


def summary(
    name: str, rows: list[Row], exact: list[Row] | None, n_bytes: int
) -> tables.Row:
    """The row of a run, beside that of an exact exchange if there was one before."""
    last = rows[-max(1, len(rows) // 10) :]
    gap = error = None
    if exact is not None:
        gaps = np.array([row.loss for row in rows]) - [row.loss for row in exact]
        tens = [np.mean(gaps[i : i + 10]) for i in range(0, len(gaps), 10)]
        gap = float(np.mean(gaps))
        if len(tens) > 1:
            error = float(np.std(tens, ddof=1) / np.sqrt(len(tens)))
    return {
        "exchange": name,
        "loss": float(np.mean([row.loss for row in last])),
        "gap": "" if gap is None else gap,
        "+-": "" if error is None else error,
        "error": float(np.mean([row.error for row in last])),
        "bytes": n_bytes,
        "seconds": float(np.median([row.seconds for row in rows])),
    }


def payload_bytes(exchange: qgenx.Exchange, setting: Setting) -> int:
    """What a worker's gradient takes on the wire."""
    model = setting.model()
    tokens = jax.ShapeDtypeStruct((1, setting.length), np.int32)
    params = jax.eval_shape(model.init, jax.random.key(0), tokens)["params"]
    return exchange.traffic(params, setting.workers).payload_bytes


def draw(runs: dict[str, list[Row]], path: pathlib.Path) -> None:
    """Losses over steps, each the mean of up to ten."""
    figure = figures.new_figure(7, 4.5)
    axes = figure.subplots()
    for color, (name, rows) in zip(figures.COLORS * 3, runs.items(), strict=False):
        width = min(10, len(rows))
        means = np.convolve([row.loss for row in rows], np.ones(width) / width, "valid")
        axes.plot(np.arange(width, len(rows) + 1), means, label=name, color=color)
    axes.set_xlabel("step")
    axes.set_ylabel("loss, nats a byte")
    axes.legend()
    figures.save_figure(figure, path)


def main(argv: list[str]) -> None:
    """Runs one after the other; tables are written after each."""
    folder = arguments.output_folder(_OUTPUT.value, argv)
    setting = Setting(
        _WORKERS.value, _SEQUENCES.value, _LENGTH.value, _LAYERS.value, _WIDTH.value,
        _RATE.value, _STEPS.value, _SEED.value,
    )  # fmt: skip
    if setting.width % 64:
        raise app.UsageError(
            f"--width must be a multiple of 64, a head each, got {setting.width}"
        )
    if exchanges.EXACT in _EXCHANGES.value[1:]:
        raise app.UsageError(
            "--exchanges must begin with exact, which others are compared with, got "
            f"{','.join(_EXCHANGES.value)}"
        )
    try:
        made = {
            name: exchanges.create(name, AXIS, setting.seed)
            for name in _EXCHANGES.value
        }
    except ValueError as error:
        raise app.UsageError(str(error)) from None
    record = {}
    if _RECORD.value:
        if folder is None:
            raise app.UsageError("--record needs --output, a folder to write to")
        steps = arguments.whole_numbers("record", _RECORD.value, 1, setting.steps)
        record = {at: folder / "vectors" / f"{at:06}.npz" for at in steps}
    text = library_sources()
    print(f"{text.size:,} bytes of Python {platform.python_version()}", flush=True)
    runs: dict[str, list[Row]] = {}
    found: list[tables.Row] = []
    for name, exchange in made.items():
        rows: list[Row] = []
        for row in train(setting, exchange, text, record if not runs else None):
            rows.append(row)
            if row.step % 20 == 0 or row.step == setting.steps:
                print(f"{name:10} step {row.step:5}  loss {row.loss:.3f}", flush=True)
        found.append(
            summary(
                name, rows, runs.get(exchanges.EXACT), payload_bytes(exchange, setting)
            )
        )
        runs[name] = rows
        if folder:
            tables.write_csv(found, folder / "summary.csv")
            losses = [
                {"exchange": which, **row._asdict()}
                for which, of in runs.items()
                for row in of
            ]
            tables.write_csv(losses, folder / "losses.csv")
            draw(runs, folder / "losses.png")
    tables.print_table(found)
    if folder:
        print(f"written to {folder}: summary.csv, losses.csv, losses.png")


if __name__ == "__main__":
    arguments.run(main)
