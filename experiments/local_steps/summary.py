"""Seconds to a loss, of the rows of all methods."""

from typing import Any

import jax

import qgenx_jax as qgenx
from experiments.benchmarks.network.links import bits_per_second
from experiments.local_steps import worker

NODES = 3


def summary(found: dict[str, list[dict[str, Any]]], rate: str) -> list[dict[str, Any]]:
    """A row for each method: bytes and seconds of a step, and seconds to the loss."""
    goal = max(rows[-1]["loss"] for rows in found.values())
    params = jax.eval_shape(lambda: worker.initial(worker.model_of()))
    link = qgenx.Link(latency=1e-4, bytes_per_second=bits_per_second(rate) / 8)
    table, first = [], 0.0
    for name, rows in found.items():
        reached = next(row for row in rows if row["loss"] <= goal)
        traffic, every = worker.traffic_of(name, params, NODES)
        first = first or reached["seconds"]
        table.append(
            {
                "method": name,
                "bytes a step": traffic.sent_bytes // every,
                "model, s a step": link.seconds(traffic) / every,
                "s a step": rows[-1]["seconds"] / rows[-1]["step"],
                f"steps to {goal:.2f}": reached["step"],
                "seconds": reached["seconds"],
                "exact over it": first / reached["seconds"],
                "last loss": f"{rows[-1]['loss']:.3f} at {rows[-1]['step']}",
            }
        )
    return table
