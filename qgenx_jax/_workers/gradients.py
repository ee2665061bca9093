"""The derivative of a worker's own loss, and of nothing that all workers share."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from qgenx_jax import _checks
from qgenx_jax._types import AxisName
from qgenx_jax._workers import axes, over_mesh, plain_jit
from qgenx_jax._workers.programs import Operation, Program


def value_and_grad(
    loss: Callable[..., Any],
    axis_name: AxisName,
    *,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    mesh: Mesh | None = None,
    replicated: int | str | Sequence[int | str] = (),
) -> Callable[..., Any]:
    """`jax.value_and_grad` of each worker's own loss: what an exchange averages.

        worker k:   (loss_k(x), grad loss_k(x))      no sum over workers in either

    Parameters are equal on all workers, and in shard_map `jax.grad` sums their
    gradients over the workers, in full precision; this differentiates with respect to
    `local_params`. A loss that is averaged over the workers (`jax.lax.pmean`) is
    refused: its gradient would be 1/K of a worker's own on a mesh, and not by vmap.
    Sums over the workers inside a loss, as of batch statistics, are right in both.

    Args:
        loss: `loss(*arguments) -> scalar`, of one worker's data.
        axis_name: the axis over workers, or a tuple of axes; None for one worker.
        argnums: which arguments to differentiate with respect to, as in jax.grad.
        has_aux: whether the loss returns (scalar, aux).
        mesh: in an ordinary jitted step, outside of any `jax.shard_map`: the mesh, one
            device along `axis_name` a worker. Then arguments are those of all workers.
            What is differentiated with respect to is on all of them, or cut over other
            axes; other arrays are batches (B, ...), of which each worker's loss is
            given B / K examples; of a typed key (`jax.random.key`) each gets its own;
            numbers, and what is no array, are handed on.
        replicated: with a mesh, the numbers or names of further arguments that each
            worker is given whole.

    Returns:
        A function of the loss's arguments that returns (value, gradient), or
        ((value, aux), gradient), each worker's own. With a mesh: the mean of the
        workers' values; gradients (K, ...), row k worker k's, for
        `quantized_mean(..., mesh=mesh)`; of aux what is equal on all workers as it is,
        the means of floating-point numbers, and arrays put together along their first
        axes, as those of a batch.

    Raises:
        ValueError: if the axis is not bound, or the loss does not vary over the
            workers: average values after, and exchange gradients. With a mesh also for
            batches that K does not divide, or of different lengths, for a loss that
            changes its arguments, and where the axis is bound already.

    Example:
        >>> import jax, jax.numpy as jnp, optax, qgenx_jax as qgenx
        >>> loss = lambda params, x: jnp.mean((params - x) ** 2)
        >>> optimizer = optax.chain(qgenx.quantized_mean("data", None), optax.sgd(0.25))
        >>> def step(params, state, x):
        ...     value, gradient = qgenx.value_and_grad(loss, "data")(params, x)
        ...     updates, state = optimizer.update(gradient, state, params)
        ...     return optax.apply_updates(params, updates), state, value
        >>> run = qgenx.map_workers(step, "data", workers=2)
        >>> state = qgenx.init(optimizer, jnp.zeros(()), workers=2)
        >>> run(jnp.zeros(()), state, jnp.array([1.0, 3.0]))[0]
        Array(1., dtype=float32)

        In plain jit, where `jax.value_and_grad(loss)` and `optax.sgd` stood:

        >>> mesh = jax.make_mesh((1,), ("data",))  # as many devices as there are
        >>> mean = qgenx.quantized_mean("data", None, mesh=mesh)  # None: exact
        >>> optimizer = optax.chain(mean, optax.sgd(0.25))
        >>> differentiate = qgenx.value_and_grad(loss, "data", mesh=mesh)
        >>> @jax.jit
        ... def step(params, state, x):
        ...     value, gradient = differentiate(params, x)
        ...     updates, state = optimizer.update(gradient, state, params)
        ...     return optax.apply_updates(params, updates), state, value
        >>> step(jnp.zeros(()), optimizer.init(jnp.zeros(())), jnp.array([1.0, 3.0]))[0]
        Array(1., dtype=float32)
    """
    _checks.function("loss", loss, "of parameters and a batch", "pass the loss")
    if axis_name is not None:
        _checks.axis_name(axis_name)
    which = tuple(argnums) if isinstance(argnums, Sequence) else (argnums,)
    if mesh is None and replicated != ():
        rule, way_out = "must be left out without a mesh", "close over such arguments"
        raise _checks.refuse("replicated", rule, replicated, way_out)
    if mesh is not None:
        over_mesh.workers_of(mesh, axis_name)

        def differentiate(loss: Callable[..., Any]) -> Callable[..., Any]:
            return value_and_grad(loss, axis_name, argnums=argnums, has_aux=has_aux)

        names = (replicated,) if isinstance(replicated, int | str) else replicated
        return plain_jit.own_gradients(
            differentiate, loss, which, axis_name, mesh, names, has_aux
        )

    def checked(*arguments: Any, **keywords: Any) -> Any:
        result = loss(*arguments, **keywords)
        value = result[0] if has_aux and isinstance(result, tuple) else result
        if not axes.tracked(axis_name) <= axes.varying(value):
            raise _refusal(axis_name)
        return result

    def call(*arguments: Any, **keywords: Any) -> Any:
        arguments = tuple(
            axes.local_params(x, axis_name)
            if i in which or i - len(arguments) in which  # from the end
            else x
            for i, x in enumerate(arguments)
        )
        if axis_name is not None and not axes.tracked(axis_name):
            run = functools.partial(loss, **keywords)
            _refuse_averaged(run, arguments, axis_name, has_aux)
        differentiate = jax.value_and_grad(checked, argnums, has_aux=has_aux)
        return differentiate(*arguments, **keywords)

    return call


def _refuse_averaged(
    loss: Callable[..., Any], arguments: tuple, axis_name: AxisName, has_aux: bool
) -> None:
    """Where JAX tracks nothing: whether a loss reads its data through sums alone."""
    names = set(axis_name if isinstance(axis_name, tuple) else (axis_name,))

    def value_of(*arguments: Any) -> Any:
        result = loss(*arguments)
        return result[0] if has_aux and isinstance(result, tuple) else result

    program = Program(jax.make_jaxpr(value_of)(*arguments))
    given = {*program.inputs, *program.traced_constants}
    at_all, beside_sums = (_reached(program, given, over) for over in (set(), names))
    if at_all & {*program.outputs} and not beside_sums & {*program.outputs}:
        raise _refusal(axis_name)


def _reached(program: Program, given: set[int], names: set) -> set[int]:
    """The values that depend on some, otherwise than through sums over these axes.

    Args:
        program: of a loss.
        given: those values, by their numbers.
        names: the axes over workers; if there are none, sums are as all else is.
    """
    reached = set(given)
    for operation in program.operations:
        if not reached.intersection(operation.ins):
            continue
        if names and _is_sum(operation, names):
            continue
        if operation.name == "scan":
            reached.update(_reached_by_scan(operation, reached, names))
        else:
            reached.update(operation.outs)
    return reached


def _is_sum(operation: Operation, names: set) -> bool:
    is_sum = operation.name in ("psum", "pmean", "psum_invariant")
    return is_sum and names <= {*operation.equation.params.get("axes", ())}


def _reached_by_scan(operation: Operation, reached: set[int], names: set) -> set[int]:
    """The results of a scan that depend on some of what it is given."""
    given = operation.equation.params
    body = Program(given["jaxpr"])
    first, carries = given["num_consts"], given["num_carry"]
    own = {i for i, number in enumerate(operation.ins) if number in reached}
    while True:
        inside = _reached(body, own | {*body.traced_constants}, names)
        found = {i for i, number in enumerate(body.outputs) if number in inside}
        # what one iteration hands on, the next one reads
        later = own | {first + i for i in found if i < carries}
        if later == own:
            break
        own = later
    kept = {i - first for i in own if first <= i < first + carries}
    return {operation.outs[i] for i in found | kept}


def _refusal(axis_name: AxisName) -> ValueError:
    return _checks.refuse(
        "loss",
        f"must be a worker's own, and vary over the worker axis {axis_name!r}",
        _checks.Text("one that is the same on all workers"),
        "leave jax.lax.pmean to the values that are printed, outside of the loss; the "
        "exchange averages the gradients",
    )
