"""One worker of the network benchmark: a process with one CPU device on a node.

It is started by `processes.Fleet`, joins the others over gloo, compiles what it
is told to, under names, and runs what is named.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from experiments.benchmarks.network import gan, processes
from qgenx_jax._codec import fusion
from qgenx_jax._exchange.parts import parts
from qgenx_jax._exchange.strategies.reduce_scatter import decode_chunks, encode_chunks
from qgenx_jax._workers import collectives

AXIS = "data"
PORT = 1234
EXACT, BF16 = "exact", "bf16"
Calls = dict[str, Callable[[], Any]]


def join(facts: dict[str, Any]) -> None:
    """Joins the other processes."""
    processes.settle(facts["host"])
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 1)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    coordinator = f"{facts['address']}:{PORT}"
    jax.distributed.initialize(
        coordinator,
        facts["nodes"],
        facts["node"],
        coordinator_bind_address=coordinator,
    )


class Worker:
    """What the parent may ask for."""

    def __init__(self) -> None:
        self.workers = jax.process_count()
        self.mesh = Mesh(np.array(jax.devices()), (AXIS,), axis_types=(AxisType.Auto,))
        self.calls: Calls = {}
        add_up = self.mapped(lambda x: lax.psum(x[0], AXIS), out_specs=P())
        ones = self.rows(np.ones(1, np.float32))
        self.barrier = lambda: jax.block_until_ready(add_up(ones))

    def mapped(self, function: Callable, out_specs: Any) -> Callable:
        """A function of each worker's row, compiled for all workers."""
        return jax.jit(
            jax.shard_map(
                function, mesh=self.mesh, in_specs=P(AXIS), out_specs=out_specs
            )
        )

    def rows(self, own: np.ndarray) -> jax.Array:
        """An array with a row for each worker, this process's own."""
        sharding = NamedSharding(self.mesh, P(AXIS))
        shape = (self.workers, *own.shape)
        return jax.make_array_from_process_local_data(sharding, own[None], shape)

    def prepare_exchange(
        self,
        name: str,
        coordinates: int,
        bits: str,
        collective: str | None,
        chunks: int,
    ) -> dict[str, Any]:
        """Compiles an exchange and, if it is quantized, its parts.

        In several chunks it is as many exchanges of pieces of the vector, in one
        program, in which the next one could be encoded while one is on its way.

        Returns:
            The collective, and per worker the bytes sent in an exchange and the phases.
        """
        rng = np.random.default_rng([7, jax.process_index()])
        own = rng.standard_normal(coordinates, np.float32)
        vectors = self.rows(own)
        quantizer = None if bits in (EXACT, BF16) else qgenx.uniform(int(bits))
        exchange = qgenx.exchange(AXIS, quantizer, collective=collective or "once")

        def mean(row: jax.Array) -> jax.Array:
            if bits == BF16:
                total = lax.psum(row[0].astype(jnp.bfloat16), AXIS)
                return total.astype(jnp.float32) / self.workers
            means, state = [], exchange.init()
            for piece in jnp.array_split(row[0], chunks):
                (found, _, _), state = exchange.send(piece, state)
                means.append(found)
            return jnp.concatenate(means)

        run = self.mapped(mean, out_specs=P())
        self.calls[name] = lambda: run(vectors)
        sizes = [x.size for x in np.array_split(own, chunks)]
        each = [
            exchange.traffic(jax.ShapeDtypeStruct((n,), own.dtype), self.workers)
            for n in sizes
        ]
        traffic, sent = each[0], sum(x.sent_bytes for x in each)
        if quantizer is not None and chunks == 1:
            self._prepare_codec(name, exchange, own, traffic.collective)
            self._prepare_wire(name, traffic)
        self._warm_up(name)
        return {
            "collective": BF16 if bits == BF16 else traffic.collective,
            "sent_bytes": sent // (2 if bits == BF16 else 1),
            "phases": len(traffic.phases),
        }

    def _prepare_codec(
        self, name: str, exchange: qgenx.Exchange, own: np.ndarray, collective: str
    ) -> None:
        """Encoding and decoding as in the exchange, on this process's device alone.

        Decoding, averaging and encoding again, between two phases, is one pass; it
        counts as encoding.
        """
        key, x = jax.random.key(0), jnp.asarray(own)
        layout = exchange.layout(x)
        (part,) = parts(layout, exchange.quantizers, exchange.second, {})

        if collective == "reduce_scatter":
            chunk, second = part.chunk(self.workers), part.second

            def encode(x: jax.Array, arrived: jax.Array) -> tuple:
                again = part.coder.recode(arrived, chunk, 0, second, key, None)
                return encode_chunks(part, key, x, self.workers), again

            def decode(rows: jax.Array) -> jax.Array:
                return fusion.joined(decode_chunks(part, second, rows), part.dtype)

            received = jax.jit(lambda x: encode_chunks(part, key, x, self.workers))(x)
            self.calls[f"{name} encode"] = _bound(encode, x, received)
        else:

            def whole(x: jax.Array) -> jax.Array:
                return part.coder.encode(key, x, part.size)

            def decode(rows: jax.Array) -> jax.Array:
                return fusion.joined(part.coder.mean(rows, part.size), part.dtype)

            received = jnp.stack([jax.jit(whole)(x)] * self.workers)
            self.calls[f"{name} encode"] = _bound(whole, x)
        self.calls[f"{name} decode"] = _bound(decode, received)

    def _prepare_wire(self, name: str, traffic: Any) -> None:
        """The collectives alone, on buffers of the same sizes."""
        runs = []
        for phase in traffic.phases:
            size, shape = phase.payload_bytes, (phase.payload_bytes,)
            function = lambda x: lax.all_gather(x[0], AXIS)[None]  # noqa: E731
            if phase.collective == "all_to_all":
                shape = (self.workers, size // self.workers)
                function = lambda x: collectives.all_to_all(x[0], AXIS)[None]  # noqa: E731
            run = self.mapped(function, out_specs=P(AXIS))
            rng = np.random.default_rng(0)
            buffer = rng.integers(0, 256, shape, dtype=np.uint8)
            runs.append(_bound(run, self.rows(buffer)))

        def wire() -> None:
            for run in runs:
                jax.block_until_ready(run())

        self.calls[f"{name} wire"] = wire

    def prepare_gan(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Compiles a training step; see `gan.prepare`."""
        call, facts = gan.prepare(**arguments)
        self.calls[name] = call
        self._warm_up(name)
        return facts

    def run(self, name: str, times: int = 1) -> list[float]:
        """Seconds of each of some calls, that all processes begin together."""
        call, seconds = self.calls[name], []
        for _ in range(times):
            self.barrier()
            start = time.perf_counter()
            jax.block_until_ready(call())
            seconds.append(time.perf_counter() - start)
        return seconds

    def wait(self, times: int) -> None:
        """So many barriers alone."""
        for _ in range(times):
            self.barrier()

    def _warm_up(self, name: str) -> None:
        for call in [c for n, c in self.calls.items() if n.split()[0] == name]:
            jax.block_until_ready(call())


def _bound(function: Callable, *arguments: Any) -> Callable[[], Any]:
    compiled = jax.jit(function)
    return lambda: compiled(*arguments)


def main() -> None:
    """Does the parent's jobs."""
    join(json.loads(sys.argv[1]))
    worker = Worker()
    processes.serve(
        {
            "prepare_exchange": worker.prepare_exchange,
            "prepare_gan": worker.prepare_gan,
            "run": worker.run,
            "wait": worker.wait,
        }
    )


if __name__ == "__main__":
    main()
