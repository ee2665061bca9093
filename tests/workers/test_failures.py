"""Errors of collectives are told by one name, others stay as they are."""

import os
import subprocess
import sys
import textwrap

import pytest

import qgenx_jax as qgenx
from experiments.common.processes import ROOT, free_port
from qgenx_jax._workers.failures import Differing, collective_of
from qgenx_jax._workers.pacing import Told

PEER = "[external/gloo/gloo/transport/tcp/pair.cc:538] Read error [127.0.0.1]:1430"
SAID = {
    f"UNKNOWN: Gloo AllGather failed: {PEER}: Connection reset by peer": "all_gather",
    f"UNKNOWN: Gloo collective permute failed: {PEER}": "collective_permute",
    f"UNKNOWN: Gloo all-reduce failed: {PEER}: Connection closed": "all_reduce",
    "NCCL operation ncclAllToAll(...) failed: remote process exited": "all_to_all",
    "INTERNAL: ReduceScatter: rendezvous timed out": "reduce_scatter",
    "Gloo broadcast failed: socket closed": "broadcast",
    "INTERNAL: all-gather of a shape that is none": "",
    "RESOURCE_EXHAUSTED: Out of memory": "",
    "Connection reset by peer": "",
}


@pytest.mark.quick
@pytest.mark.parametrize(("said", "collective"), SAID.items())
def test_what_jax_says_of_collectives(said, collective):
    assert collective_of(said) == collective
    ahead = "INTERNAL: " + "Error dispatching computation: " * 80 + said

    def run():
        raise RuntimeError(ahead)

    with pytest.raises(RuntimeError) as error:
        Told(run)()
    if not collective:
        assert type(error.value) is RuntimeError
        return
    assert isinstance(error.value, qgenx.ExchangeError)
    assert error.value.collective == collective
    assert str(error.value).startswith(f"{collective} must reach all workers, got ")
    assert said[-20:] in str(error.value)
    assert len(str(error.value)) < 500
    assert str(error.value.__cause__) == ahead


@pytest.mark.quick
def test_what_is_no_error_of_jax_passes_as_it_is():
    for kind in (ValueError, KeyError, KeyboardInterrupt):
        with pytest.raises(kind), qgenx.ExchangeError.naming():
            raise kind("Gloo AllGather failed")
    with pytest.raises(Differing) as error, qgenx.ExchangeError.naming():
        raise Differing("Gloo AllGather failed")
    assert error.value.__cause__ is None
    with qgenx.ExchangeError.naming():
        pass


PROGRAM = """
    import os
    import signal
    import sys

    import jax

    process, port, is_paced = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "paced"
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2 if is_paced else 1)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, process)
    import jax.numpy as jnp

    import qgenx_jax as qgenx

    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    mean = qgenx.quantized_mean("data", qgenx.uniform(4), exact=None)


    def step(x, state):
        v = qgenx.local_params(x, "data")
        moved, state = mean.update(v, state)
        return moved, state


    replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    x = jax.device_put(jnp.ones((8, 8)), replicated)
    state = qgenx.init(mean, x, mesh, "data")
    run, where = qgenx.map_workers(step, "data", mesh=mesh), "map_workers"
    try:
        for number in range(10):
            if process and number == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            x, state = run(x, state)
        where = "waiting"
        with qgenx.ExchangeError.naming():
            jax.block_until_ready(x)
    except qgenx.ExchangeError as error:
        print(f"{where}: {error.collective}", flush=True)
    os._exit(0)
"""


@pytest.mark.parametrize(("way", "where"), [("paced", "map_workers"), ("", "waiting")])
def test_a_worker_that_is_killed_is_told_where_python_sees_it(way, where):
    """By the step where steps wait for each other, else by who waits for results."""
    script, port = textwrap.dedent(PROGRAM), str(free_port())
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(process), port, way],
            env={**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process in range(2)
    ]
    try:
        printed = started[0].communicate(timeout=240)[0]
    finally:
        for process in started:
            process.kill()
            process.communicate()
    assert f"{where}: all_gather" in printed, printed
