"""Exchanges as the network benchmark measures them, whose unknowns are known."""

import itertools

import jax
import numpy as np

import qgenx_jax as qgenx
from experiments.benchmarks.scaling import projection

TRUE = {
    "latency": 2e-3,
    "link time": 1.25,
    "unlimited bytes": 3e-9,
    "encode": 5e-9,
    "decode": 1e-9,
}


def measured_rows(noise, rates=("unlimited", "1gbit", "100mbit", "10mbit")):
    """Rows as the network benchmark writes, whose seconds are those of TRUE."""
    rng = np.random.default_rng(3)
    bit_rates = {"1gbit": 1e9, "100mbit": 1e8, "10mbit": 1e7}
    cases = [("exact", "exact")] + [
        (way, str(bits)) for bits in (8, 4, 2) for way in projection.FLAT
    ]
    for rate, (way, bits), size in itertools.product(rates, cases, (4096, 2**20)):
        quantizer = None if bits == "exact" else qgenx.uniform(int(bits))
        exchange = qgenx.exchange("data", quantizer, collective=way)
        sent = exchange.traffic(jax.ShapeDtypeStruct((size,), "float32"), 3)
        messages = 4 if len(sent.phases) == 2 or bits == "exact" else 2
        if rate == "unlimited":
            wire = 2e-3 * messages + 3e-9 * sent.sent_bytes
        else:
            wire = 2e-3 * messages + 1.25 * 8 * sent.sent_bytes / bit_rates[rate]
        encode = 5e-9 * sum(phase.encoded for phase in sent.phases)
        decode = 1e-9 * sum(phase.decoded for phase in sent.phases)
        parts = {
            "whole": wire + encode + decode,
            "encode": "",
            "wire": "",
            "decode": "",
        }
        if quantizer is not None:
            # between two phases one pass decodes and encodes
            between = 1e-9 * sum(phase.decoded for phase in sent.phases[:-1])
            codec = {"encode": encode + between, "decode": decode - between}
            parts |= {"wire": wire, **codec}
        row = {"framework": "qgenx_jax", "collective": way, "bits": bits}
        row |= {"coordinates": size, "nodes": 3, "rate": rate}
        row |= {"rate bit/s": bit_rates.get(rate, ""), "sent bytes": sent.sent_bytes}
        for part, seconds in parts.items():
            factor = 1 + noise * rng.standard_normal()
            row[f"seconds {part}"] = seconds * factor if seconds != "" else ""
        yield {name: str(value) for name, value in row.items()}
