"""What a run prints before its first iteration and after its last."""

from experiments.cifar10_gan.config import EXACT, Config
from experiments.cifar10_gan.networks import models
from experiments.cifar10_gan.run import Run
from experiments.common.figures import with_unit


def facts(run: Run) -> str:
    """One line: pictures, workers, size, and what the exchange saves."""
    config, params = run.config, run.training.params
    line = (
        f"{config.source}: {config.workers} workers on {run.place.describe()}, "
        f"{models.count(params):,} parameters, {precision(config)}"
    )
    sent = run.traffic.sent_bytes
    if sent and config.bits != EXACT:
        line += f", {exact_bytes(run) / sent:.1f}x fewer bytes"
    if config.share is not None:
        line += f", {config.global_batch} pictures together"
    if run.iteration:
        line += f", going on from iteration {run.iteration}"
        if run.workers_before != config.workers:
            line += f" of {run.workers_before} workers"
    return line


def closing(run: Run) -> str:
    """What a finished run has cost, and what lies where in its workdir."""
    config, workdir, done = run.config, run.workdir, run.iteration
    cost = f"{done:,} iterations in {run.clock.in_all:,.0f} s"
    if run.sent_bytes:
        cost += f", {precision(config)}: each worker sent {_size(run.sent_bytes)}"
        if config.bits != EXACT:
            cost += f", exact {_size(done * exact_bytes(run))}"
    files = {
        f"samples/{done:06d}_ema.png": "samples, by the moving average of G's weights",
        "training.gif": "the same latents while G was trained",
        "interpolations.png": "from one latent to another, row by row",
        "neighbours.png": "real, generated, and the nearest real ones to these",
        "curves.png": "losses, scores and bytes, over iterations",
        "metrics.csv": "the same as numbers",
    }
    width = max(map(len, files))
    lines = [f"  {name:{width}}  {what}" for name, what in files.items()]
    go_on = f"go on by --resume --workdir={workdir} --iterations={2 * done}"
    return "\n".join([cost, f"in {workdir}:", *lines, go_on])


def title(config: Config) -> str:
    """Of a figure of the run."""
    what = "an exact exchange"
    if config.bits != EXACT:
        what = f"an exchange in {precision(config)}"
    optimizer = config.optimizer.replace("_", " ")
    return f"{config.source}: {config.workers} workers, {optimizer}, {what}"


def precision(config: Config) -> str:
    """In words: exact, 1 bit, 4 bits."""
    if config.bits == EXACT:
        return "exact"
    return f"{config.bits} bit" + "s" * (config.bits > 1)


def exact_bytes(run: Run) -> float:
    """That each worker would send in an iteration by a float32 all-reduce in a ring."""
    workers = run.config.workers
    return 2 * (workers - 1) * 4 * run.traffic.coordinates / workers


def _size(count: float) -> str:
    divisor, text = with_unit("", "bytes", count)
    return f"{count / divisor:,.4g} {text.strip(' ()')}"
