"""The ways in which people run a step, each with every kind of optimizer.

The optimizers are those of `tests.lib.compositions`, with nothing of optax's beside
them; so is what they have to come to. Each way is written as its user would.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib import compositions, kits
from tests.lib.compositions import CALLS, NOTHING, OWN, START, WORKERS, vector
from tests.lib.helpers import AXIS, mesh_of

OPTIMIZERS = {
    "`quantized_mean`": compositions.IN_PLACE["after"],
    "`accumulate`": compositions.IN_PLACE["accumulate"],
    "`alternating`": compositions.IN_PLACE["pair"],
    "`q_genx`": compositions.IN_PLACE["q_genx"],
}
OWN_OF_ALL = jax.tree.map(lambda *leaves: jnp.stack(leaves), *OWN)


def worker_step(optimizer: Any, operator: Any = vector, axis: Any = AXIS) -> Any:
    """What one worker does: its own vector, exchanged and applied."""

    def step(params: Any, state: Any, own: Any) -> Any:
        v = operator(qgenx.local_params(params, axis), own, 0.0)
        moves, state = optimizer.update(v, state, params)
        return optax.apply_updates(params, moves), state

    return step


def loop(run: Any, params: Any, state: Any) -> Any:
    for _ in range(CALLS):
        params, state = run(params, state, OWN_OF_ALL)
    return params


def on_a_mesh(optimizer: Any, operator: Any = vector, **more: Any) -> Any:
    mesh = mesh_of(WORKERS)
    run = qgenx.map_workers(worker_step(optimizer, operator), AXIS, mesh=mesh, **more)
    params = jax.device_put(START, NamedSharding(mesh, P()))
    return loop(run, params, qgenx.init(optimizer, params, mesh, AXIS))


def by_vmap(optimizer: Any) -> Any:
    run = qgenx.map_workers(worker_step(optimizer), AXIS, workers=WORKERS)
    return loop(run, START, qgenx.init(optimizer, START, workers=WORKERS))


def donated(optimizer: Any) -> Any:
    mesh = mesh_of(WORKERS)
    run = qgenx.map_workers(worker_step(optimizer), AXIS, mesh=mesh, donate=True)
    params = jax.device_put(jax.device_get(START), NamedSharding(mesh, P()))
    return loop(run, params, qgenx.init(optimizer, params, mesh, AXIS))


def alone(optimizer: Any) -> Any:
    """One worker without an axis; its point is the mean of the workers' points."""
    mean = jax.tree.map(lambda x: x.mean(axis=0), OWN_OF_ALL)
    step = jax.jit(worker_step(optimizer, axis=None))
    params, state = START, optimizer.init(START)
    for _ in range(CALLS):
        params, state = step(params, state, mean)
    return params


def scan_in_a_step(optimizer: Any) -> Any:
    one = worker_step(optimizer)

    def step(params: Any, state: Any, own: Any) -> Any:
        def body(carry: Any, _: Any) -> Any:
            return one(*carry, own), None

        return jax.lax.scan(body, (params, state), length=CALLS)[0]

    mesh = mesh_of(WORKERS)
    run = qgenx.map_workers(step, AXIS, mesh=mesh)
    return run(START, qgenx.init(optimizer, START, mesh, AXIS), OWN_OF_ALL)[0]


def scan_around(optimizer: Any) -> Any:
    mesh = mesh_of(WORKERS)
    run = qgenx.map_workers(worker_step(optimizer), AXIS, mesh=mesh)

    @jax.jit
    def train(params: Any, state: Any, own: Any) -> Any:
        def body(carry: Any, _: Any) -> Any:
            return run(*carry, own), None

        return jax.lax.scan(body, (params, state), length=CALLS)[0]

    params = jax.device_put(START, NamedSharding(mesh, P()))
    return train(params, qgenx.init(optimizer, params, mesh, AXIS), OWN_OF_ALL)[0]


def ahead_of_time(optimizer: Any) -> Any:
    mesh = mesh_of(WORKERS)
    run = qgenx.map_workers(worker_step(optimizer), AXIS, mesh=mesh)
    params = jax.device_put(START, NamedSharding(mesh, P()))
    state = qgenx.init(optimizer, params, mesh, AXIS)
    own = jax.device_put(OWN_OF_ALL, NamedSharding(mesh, P(AXIS)))
    compiled = run.lower(params, state, own).compile()
    for _ in range(CALLS):
        params, state = compiled(params, state, own)
        jax.block_until_ready(params)
    return params


def ensemble(optimizer: Any) -> Any:
    """Three runs at once, by vmap around the workers; the middle one."""
    run = qgenx.map_workers(worker_step(optimizer), AXIS, workers=WORKERS)
    runs = jax.jit(jax.vmap(run, in_axes=(0, 0, None)))

    def three(tree: Any) -> Any:
        return jax.tree.map(lambda x: jnp.stack([x, x, x]), tree)

    start = jax.tree.map(lambda x: jnp.stack([x + 1, x, x - 1]), START)
    found = loop(runs, start, three(qgenx.init(optimizer, START, workers=WORKERS)))
    return jax.tree.map(lambda x: x[1], found)


def shard_map_by_hand(optimizer: Any, mesh: Any = None) -> Any:
    mesh = mesh_of(WORKERS) if mesh is None else mesh
    state = qgenx.init(optimizer, START, mesh, AXIS)
    specs = qgenx.state_specs(state, AXIS)
    step = worker_step(optimizer)

    def worker(params: Any, state: Any, own: Any) -> Any:
        return step(params, state, jax.tree.map(lambda x: x[0], own))

    shards = jax.shard_map(
        worker, mesh=mesh, in_specs=(P(), specs, P(AXIS)), out_specs=(P(), specs)
    )
    run = jax.jit(shards)

    def waiting(*arguments: Any) -> Any:
        return jax.block_until_ready(run(*arguments))

    return loop(waiting, START, state)


def with_a_model_axis(optimizer: Any) -> Any:
    devices = np.asarray(jax.devices()[: 2 * WORKERS]).reshape(WORKERS, 2)
    mesh = jax.sharding.Mesh(devices, (AXIS, "model"), axis_types=(AxisType.Auto,) * 2)
    return shard_map_by_hand(optimizer, mesh)


def under_set_mesh(optimizer: Any, kind: AxisType) -> Any:
    """The mesh that is set, and no mesh is given to anything."""
    mesh = jax.make_mesh(
        (WORKERS, 2), (AXIS, "model"), (kind,) * 2, devices=jax.devices()[:4]
    )
    with jax.set_mesh(mesh):
        run = qgenx.map_workers(worker_step(optimizer), AXIS)
        return loop(run, START, qgenx.init(optimizer, START, axis_name=AXIS))


def pmap_by_hand(optimizer: Any) -> Any:
    run = jax.pmap(worker_step(optimizer), axis_name=AXIS)

    def each(tree: Any) -> Any:
        return jax.tree.map(lambda x: jnp.stack([x] * WORKERS), tree)

    params, state = each(START), each(optimizer.init(START))
    for _ in range(CALLS):
        params, state = jax.block_until_ready(run(params, state, OWN_OF_ALL))
    return jax.tree.map(lambda x: x[0], params)


def vmap_by_hand(optimizer: Any) -> Any:
    step = worker_step(optimizer)
    run = jax.jit(jax.vmap(step, axis_name=AXIS))

    def each(tree: Any) -> Any:
        return jax.tree.map(lambda x: jnp.stack([x] * WORKERS), tree)

    found = loop(run, each(START), each(optimizer.init(START)))
    return jax.tree.map(lambda x: x[0], found)


def rematerialized(optimizer: Any) -> Any:
    return on_a_mesh(optimizer, jax.checkpoint(vector))


def through_bytes(optimizer: Any) -> Any:
    """Parameters and state to bytes and back after every call, by flax."""
    from flax import serialization

    mesh = mesh_of(WORKERS)
    run = qgenx.map_workers(worker_step(optimizer), AXIS, mesh=mesh)
    both = (START, qgenx.init(optimizer, START, mesh, AXIS))
    like = jax.device_get(both)
    for _ in range(CALLS):
        kept = serialization.to_bytes(run(*both, OWN_OF_ALL))
        both = serialization.from_bytes(like, kept)
    return both[0]


def linen_train_state(optimizer: Any) -> Any:
    from flax.training.train_state import TrainState

    mesh = mesh_of(WORKERS)
    made = TrainState.create(apply_fn=vector, params=START, tx=optimizer)

    def step(nothing: Any, state: Any, own: Any) -> Any:
        v = state.apply_fn(qgenx.local_params(state.params, AXIS), own, 0.0)
        return nothing, state.apply_gradients(grads=v)

    run = qgenx.map_workers(step, AXIS, mesh=mesh)
    state = qgenx.lay_out(made, mesh, AXIS)
    for _ in range(CALLS):
        _, state = run((), state, OWN_OF_ALL)
    return state.params


def nnx_optimizer(optimizer: Any) -> Any:
    from flax import nnx

    class Model(nnx.Module):
        def __init__(self) -> None:
            self.kernel, self.bias = map(nnx.Param, (START["kernel"], START["bias"]))

    model = Model()
    keeper = nnx.Optimizer(model, optimizer, wrt=nnx.Param)
    graph, params = nnx.split(model)
    other_graph, state = nnx.split(keeper)

    def step(params: Any, state: Any, own: Any) -> Any:
        model, keeper = nnx.merge(graph, params), nnx.merge(other_graph, state)
        local = qgenx.local_params(params, AXIS)
        own = nnx.State({name: nnx.Param(x) for name, x in own.items()})
        keeper.update(model, vector(local, own, 0.0))
        return nnx.split(model)[1], nnx.split(keeper)[1]

    run = qgenx.map_workers(step, AXIS, workers=WORKERS)
    params = loop(run, params, qgenx.lay_out(state, workers=WORKERS))
    return nnx.to_pure_dict(params)


WAYS: dict[str, Callable[[Any], Any]] = {
    "`map_workers` on a mesh": on_a_mesh,
    "`map_workers` by `vmap`": by_vmap,
    "`donate=True`": donated,
    "one worker, `axis_name=None`": alone,
    "`lax.scan` in the step": scan_in_a_step,
    "`lax.scan` around `map_workers`": scan_around,
    "`lower().compile()`": ahead_of_time,
    "`vmap` around `map_workers`": ensemble,
    "`jax.checkpoint` of the operator": rematerialized,
    "`shard_map` by hand": shard_map_by_hand,
    "beside a model axis": with_a_model_axis,
    "`jax.set_mesh`, Auto axes": functools.partial(under_set_mesh, kind=AxisType.Auto),
    "`jax.set_mesh`, Explicit axes": functools.partial(
        under_set_mesh, kind=AxisType.Explicit
    ),
    "`pmap` by hand": pmap_by_hand,
    "`vmap` by hand": vmap_by_hand,
    "`flax.serialization` between calls": through_bytes,
    "flax `TrainState`": linen_train_state,
    "`nnx.Optimizer`": nnx_optimizer,
}


BITS = qgenx.uniform(bits=4, bucket_size=8)
QUANTIZED: dict[str, Callable[[], Any]] = {
    "`quantized_mean`, 4 bits": lambda: optax.chain(
        qgenx.quantized_mean(AXIS, BITS, exact=None), optax.sgd(0.1, momentum=0.5)
    ),
    "optimistic `q_genx`, 4 bits": lambda: qgenx.alternating(
        qgenx.q_genx(AXIS, BITS, variant="optimistic", gamma0=0.2)
    ),
}
COLUMNS = [*OPTIMIZERS, *QUANTIZED]


@functools.cache
def wanted(column: str) -> Any:
    """Without the library; of what is rounded, by the plainest way."""
    if column in QUANTIZED:
        return jax.device_get(on_a_mesh(QUANTIZED[column]()))
    row = compositions.Row(lambda: NOTHING, False)
    return compositions.without_library(row, OPTIMIZERS[column])


def verdict(way: str, column: str) -> str:
    """As that of `compositions`, of a way; "–" where there is nothing to compare."""
    run = WAYS[way]
    if column in QUANTIZED:
        if run is alone:
            return "–"  # another number of vectors, each rounded
        made = QUANTIZED[column]()
    else:
        axis = None if run is alone else AXIS
        made = OPTIMIZERS[column].build(kits.ours_over(axis), NOTHING)
    return compositions.judged(
        lambda: jax.device_get(run(made)), lambda: wanted(column)
    )
