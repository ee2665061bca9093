"""The training program: WGAN-GP, dual vectors exchanged in b bits.

At each oracle call every worker takes a fresh batch of its own, computes the joint dual
vector (grad_G loss_G, grad_D loss_D), and sends it quantized:

    batch -> operator -> exchange -> optimizer -> parameters

With `n_critic` the first updates of an iteration are of the discriminator alone.
"""

import contextlib
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import qgenx_jax as qgenx
from experiments.cifar10_gan import step as steps
from experiments.cifar10_gan.checkpoints import Checkpoints
from experiments.cifar10_gan.config import EXACT, PLANNED, Config
from experiments.cifar10_gan.data.prefetch import Prefetched
from experiments.cifar10_gan.digests import digests
from experiments.cifar10_gan.parsing import parse_numbers
from experiments.cifar10_gan.profiling import Profiler
from experiments.cifar10_gan.reporting import screens
from experiments.cifar10_gan.reporting.figures import plot_curves
from experiments.cifar10_gan.reporting.levels import plot_levels
from experiments.cifar10_gan.reporting.observer import Observer
from experiments.cifar10_gan.reporting.score import Stopped
from experiments.cifar10_gan.run import Run
from experiments.cifar10_gan.together.leaving import crew
from experiments.cifar10_gan.together.signals import stop_on_signals
from experiments.cifar10_gan.together.votes import anywhere, together
from experiments.cifar10_gan.workdirs import (
    check_shared,
    check_workdir,
    save_config,
)


def train(config: Config, *, resume: bool = False, stop_code: int = 0) -> pathlib.Path:
    """Trains, and leaves in the workdir what there is to see.

    Writes config.json, metrics.csv, curves.png, samples_real.png, samples/*.png of raw
    and of averaged weights, pictures to show (`reporting.album`), and checkpoints.
    SIGTERM, or an interrupt from the keyboard saves a checkpoint and ends the run
    early.

    Args:
        config: of the run.
        resume: goes on from the last checkpoint in the workdir, to the bit.
        stop_code: by which the process ends where a signal ends the run early.

    Returns:
        The workdir.

    Raises:
        ValueError: for a configuration that cannot run, a workdir that holds a run (or
            none, to resume), or a checkpoint that cannot be read.
        FloatingPointError: as soon as a logged loss is not finite.
        SystemExit: with `stop_code`, unless that is 0.
    """
    config.validate()
    is_first = jax.process_index() == 0
    with contextlib.ExitStack() as stack:
        stopped = stack.enter_context(stop_on_signals())
        workdir = together(lambda: check_workdir(config, resume=resume), "the workdir")
        check_shared(workdir)
        run = Run(config)
        keep = config.keep_checkpoints
        checkpoints = stack.enter_context(
            Checkpoints(workdir / "checkpoints", keep=keep)
        )
        if resume:
            run.restore_latest(checkpoints)
        if run.iteration > config.iterations:
            raise ValueError(
                f"iterations must be at least the {run.iteration} that are done, got "
                f"{config.iterations}; leave it out, or raise it"
            )

        def start() -> Observer | None:
            if not is_first:
                return None
            observer = stack.enter_context(Observer(run, resume=resume))
            save_config(config, workdir)  # last: what cannot start leaves no run
            print(screens.facts(run), flush=True)
            return observer

        observer = together(start, "the start")
        if is_first and run.iteration == config.iterations:
            print(
                f"all {run.iteration} iterations are done; raise --iterations for more"
            )
        loop(run, checkpoints, observer, stopped)
        if (members := crew()) is not None:
            members.progress.enter("finish", run.iteration)
        if observer is not None and run.iteration == config.iterations:
            observer.finish(run)
    if is_first and run.iteration < config.iterations:
        print(
            f"stopped after iteration {run.iteration} and saved it; go on by --resume "
            f"--workdir={workdir}"
        )
    elif is_first:
        plot_curves(
            workdir / "metrics.csv",
            workdir / "curves.png",
            title=screens.title(config),
            exact_bytes=screens.exact_bytes(run) if config.bits != EXACT else 0,
        )
        if (workdir / "levels.csv").exists():
            plot_levels(workdir / "levels.csv", workdir / "levels.png")
        print(screens.closing(run))
    if stop_code and run.iteration < config.iterations:
        raise SystemExit(stop_code)
    return workdir


def loop(
    run: Run,
    checkpoints: Checkpoints,
    observer: Observer | None,
    stopped: Sequence[int],
) -> None:
    """Iterates to the end, or until stopped, saving checkpoints on the way."""
    config, place, clock = run.config, run.place.place_batch, run.clock
    workers = len(run.place.local_workers(config.workers))
    first = run.iteration
    clock.begin()

    def is_due(every: int) -> bool:
        return run.iteration % every == 0 or run.iteration == config.iterations

    def observe(row: dict[str, float], *, scored: bool, kept: bool) -> None:
        if observer is not None and (row or scored):
            observer.record(run, row, scored=scored)
        if observer is not None and kept:
            observer.flush()  # rows are on the disk before their checkpoint

    def observe_start() -> None:
        with contextlib.suppress(Stopped):  # it is scored when the run goes on
            if observer is not None:
                observer.record(run, {}, scored=True, stopped=stopped)

    members = crew()

    def enter(phase: str, ahead: int = 0) -> None:
        if members is not None:
            members.progress.enter(phase, run.iteration + ahead)

    def must_stop() -> bool:
        """The same in all processes; of one alone at once."""
        return bool(stopped) if members is None else members.stops(run.iteration)

    if run.iteration == 0:
        enter("score")
        together(observe_start, "the first score")
        if anywhere(bool(stopped), "stopped at the start"):
            return run.save(checkpoints)
    profiler = Profiler(config.profile, run.workdir / "profile", clock)
    reported = False
    with contextlib.ExitStack() as stack:
        batches = stack.enter_context(Prefetched(run.batches, place=place))
        stack.callback(profiler.close)
        clock.start()
        while run.iteration < config.iterations:
            enter("data", 1)
            pictures = next(batches)
            compiles = run.iteration == first
            if looks_at_vectors(run):
                jax.block_until_ready(run.training)
                clock.stop()
                enter("compile", 1)
                compiles |= look_at_vectors(run, observer, pictures)
                clock.start()
            run.iteration += 1
            run.sent_bytes += run.traffic.sent_bytes
            logged, scored = is_due(config.log_every), is_due(config.score_every)
            facts = np.full(workers, run.iteration), np.full(workers, logged)
            if compiles and observer is not None:
                observer.compiling()
            enter("compile" if compiles else "step")
            profiler.before(run.iteration, run.training)
            run.training, metrics = run.step(run.training, pictures, *map(place, facts))
            clock.count()
            if members is not None:
                members.progress.hand(run.iteration, jax.tree.leaves(metrics)[0])
            if compiles:
                jax.block_until_ready(metrics)
                clock.stop(compiled=True)
                if observer is not None:
                    observer.begin(run)
                clock.start()
            profiler.after(run.iteration, run.training)
            run.position = batches.state()
            if config.check_replicas_every and is_due(config.check_replicas_every):
                enter("report" if reported else "compile")
                with checkpoints.finished_first():
                    check_replicas(run)
            stops = must_stop()
            kept = stops or is_due(config.checkpoint_every)
            if logged or scored or kept:  # nothing is kept of a run that has diverged
                jax.block_until_ready(run.training)
                clock.stop()
                # the first row compiles what makes it
                enter("score" if scored else "report" if reported else "compile")
                reported = True
                row = jax.device_get(steps.summarize(metrics, run.training))
                check = functools.partial(steps.check_finite, row, run.iteration)
                with checkpoints.finished_first():
                    together(check, "finite numbers")
                shown = row if logged else {}
                show = functools.partial(observe, shown, scored=scored, kept=kept)
                together(show, "a row")
                if kept:
                    enter("save")
                    run.save(checkpoints)
                clock.start()
            if stops:
                return


def check_replicas(run: Run) -> None:
    """Compares the copies of all processes and devices.

    Raises:
        ValueError: in all processes, with the first leaf whose copies differ.
    """
    if jax.process_count() > 1:
        digests(run.training)  # names the odd process
    qgenx.check_replicas(run.training)


def looks_at_vectors(run: Run) -> bool:
    """Whether the next iteration's dual vector is to be recorded, or planned by."""
    config, done = run.config, run.iteration
    is_planned = config.bits != EXACT and config.plan in PLANNED
    plans = parse_numbers("plan_at", config.plan_at) if is_planned else ()
    return done in (*parse_numbers("record_vectors", config.record_vectors), *plans)


def look_at_vectors(run: Run, observer: Observer | None, pictures: Any) -> bool:
    """Records the dual vector of the next iteration, or plans by it, if it is time.

    Returns:
        Whether a step has to be compiled, for a new plan.
    """
    config, done = run.config, run.iteration
    if done in parse_numbers("record_vectors", config.record_vectors) and observer:
        path = run.workdir / "vectors" / f"{done:06d}.npz"
        vector = run.vectors.record(run.training.params, pictures, done, path)
        observer.recorded(run, vector)
    is_planned = config.bits != EXACT and config.plan in PLANNED
    if is_planned and done in parse_numbers("plan_at", config.plan_at):
        plan = run.replan(pictures)
        if observer is not None:
            observer.planned(run, plan)
        return True
    return False
