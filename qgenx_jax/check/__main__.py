"""The checks of an exchange, from the command line.

    python -m qgenx_jax.check [--mesh=data:4] [--quantizer=best:4] [--link]

On several hosts start it on each, with --coordinator, --processes and --process. Ends
with code 1 if a check has failed.
"""

import argparse
import importlib
import math
import sys
from typing import Any

import jax

from qgenx_jax._codec.quantizer import Quantizer
from qgenx_jax._exchange.factory import exchange as make_exchange
from qgenx_jax._exchange.traffic import Link
from qgenx_jax.check.clock import measure_link
from qgenx_jax.check.exchanges import check_exchange


def parser() -> argparse.ArgumentParser:
    """Its flags."""
    found = argparse.ArgumentParser("python -m qgenx_jax.check", description=__doc__)
    say = found.add_argument
    say("--mesh", help="names and sizes, data:4 or data:2,model:2; all devices as data")
    say("--axis", help="the axis over workers; by default the first one of the mesh")
    say("--quantizer", default="uniform:4", help="name and bits, or none")
    say("--collective", default="auto", help="as in qgenx_jax.exchange")
    say("--draws", type=int, default=24, help="exchanges of each kind")
    say("--link", action="store_true", help="measure what connects the workers, too")
    say("--devices", type=int, help="simulate as many, on a CPU")
    say("--coordinator", help="HOST:PORT of process 0")
    say("--processes", type=int, help="of the run")
    say("--process", type=int, help="the number of this one")
    return found


def quantizer_of(text: str) -> Any:
    """A quantizer by its name in the library and its bits, "uniform:4"; "none" is None.

    Raises:
        ValueError: if the library has none of that name, or the bits are no number.
    """
    if text == "none":
        return None
    name, _, bits = text.partition(":")
    make = getattr(importlib.import_module("qgenx_jax"), name, None)
    refusal = ValueError(
        f"--quantizer must be a quantizer's name and bits, got {text!r}: for instance "
        "uniform:4, best:2, min_max:8 or none"
    )
    try:
        found = make(int(bits or 4))  # type: ignore[misc]
    except TypeError as error:
        raise refusal from error
    if not isinstance(found, Quantizer):
        raise refusal
    return found


def mesh_of(text: str | None) -> jax.sharding.Mesh:
    """A mesh by names and sizes, "data:4,model:2"; of all devices as "data".

    Raises:
        ValueError: if it is not such, or there are fewer devices.
    """
    text = text or f"data:{jax.device_count()}"
    try:
        pairs = [entry.split(":") for entry in text.split(",")]
        names, sizes = zip(*((name, int(size)) for name, size in pairs), strict=True)
    except ValueError as error:
        raise ValueError(
            f"--mesh must be names and sizes, got {text!r}: for instance data:4,model:2"
        ) from error
    count = math.prod(sizes)
    if not 0 < count <= jax.device_count():
        raise ValueError(
            f"--mesh must have at most {jax.device_count()} devices, got {text!r}: "
            "on a CPU --devices=N simulates some"
        )
    return jax.make_mesh(sizes, names, devices=jax.devices()[:count])


def main(arguments: list[str] | None = None) -> int:
    """Checks, prints the report, and returns the exit code."""
    flags = parser().parse_args(arguments)
    together = (flags.coordinator, flags.processes, flags.process)
    try:
        if flags.devices is not None and flags.devices < 1:
            raise ValueError(f"--devices must be at least 1, got {flags.devices}")
        if any(x is not None for x in together):
            if None in together:
                raise ValueError(
                    "--coordinator, --processes and --process must be given together, "
                    f"got {together}"
                )
            jax.distributed.initialize(*together)
        if flags.devices is not None:
            jax.config.update("jax_num_cpu_devices", flags.devices)
        quantizer, mesh = quantizer_of(flags.quantizer), mesh_of(flags.mesh)
        axis = flags.axis or mesh.axis_names[0]
        collective = "exact" if quantizer is None else flags.collective
        exchange = make_exchange(axis, quantizer, collective=collective)
        report = check_exchange(exchange, mesh, draws=flags.draws)
        link = (
            measure_link(mesh, axis, quantizer or quantizer_of("uniform:4"))
            if (flags.link)
            else None
        )
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if jax.process_index() == 0:
        print(report)
        if link is not None:
            _print_link(link)
    return 0 if report.ok else 1


def _print_link(link: Link) -> None:
    fields = ("latency", "bytes_per_second", "encode", "decode")
    text = ", ".join(f"{name}={getattr(link, name):.3g}" for name in fields)
    print(f"link=qgenx.Link({text})")
    print(
        f"{link.bytes_per_second * 8 / 1e9:.3g} Gbit/s; give it as link= or collective="
    )


if __name__ == "__main__":
    sys.exit(main())
