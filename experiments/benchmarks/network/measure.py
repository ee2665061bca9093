"""What the network benchmark measures at one rate, on the side of the parent."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.benchmarks.network import report
from experiments.benchmarks.network.links import (
    UNLIMITED,
    Links,
    bits_per_second,
)
from experiments.benchmarks.network.processes import Fleet

EXACT, BF16, COMPUTE = "exact", "bf16", "compute"
HOOKS = {"no hook": (EXACT, 4.0), "fp16 hook": ("fp16", 2.0), "PowerSGD": ("", None)}
PARTS = ("encode", "wire", "decode")
_BARRIERS = 50


class Plan(NamedTuple):
    """What to measure.

    Attributes:
        nodes: N.
        rates: of the links.
        bits: per coordinate.
        collectives: of quantized exchanges.
        sizes: coordinates.
        longest: seconds that an exact exchange may take.
        seconds: for the rounds at one rate.
        most_rounds: however fast they are.
        chunks: pieces of a vector that are exchanged one by one, too; 1 for none.
    """

    nodes: int
    rates: Sequence[str]
    bits: Sequence[int]
    collectives: Sequence[str]
    sizes: Sequence[int]
    longest: float
    seconds: float
    most_rounds: int
    chunks: int


class Measured(NamedTuple):
    """Of one call on all nodes.

    Attributes:
        seconds: median over rounds of the slowest node's.
        rounds: how many.
        sent: bytes without headers and barriers, a mean over rounds for each node.
    """

    seconds: float
    rounds: int
    sent: np.ndarray


class Bench:
    """Links, the processes on them, and what they have compiled."""

    def __init__(self, links: Links, fleet: Fleet, plan: Plan) -> None:
        """Measures what barriers send."""
        self.links, self.fleet, self.plan = links, fleet, plan
        self.prepared: dict[str, dict[str, Any]] = {}
        self.fleet.ask("wait", times=_BARRIERS)
        before = self._sent()
        self.fleet.ask("wait", times=_BARRIERS)
        self.barrier = (self._sent() - before) / _BARRIERS

    def background(self, seconds: float = 1.0) -> str:
        """What is sent by itself, in words."""
        before = self._sent()
        time.sleep(seconds)
        idle = (self._sent() - before).max() / seconds
        return (
            f"background: {idle:.0f} bytes/s, {self.barrier.max():.0f} bytes a barrier"
        )

    def prepare(self, job: str, name: str, **arguments: Any) -> Any:
        """Compiles something under a name, once."""
        if name not in self.prepared:
            print(f"  compiling {name}", flush=True)
            self.links.limit(UNLIMITED)  # first calls are not measured
            self.prepared[name] = self.fleet.ask(job, name=name, **arguments)[0]
        return self.prepared[name]

    def rounds(self, rate: str, names: Sequence[str]) -> dict[str, Measured]:
        """Calls everything in turn, round after round, at a rate.

        A first round, not counted, says how many there is time for.
        """
        self.links.limit(rate)
        start = time.monotonic()
        for name in names:
            self.fleet.ask("run", name=name)
        once = time.monotonic() - start
        most = self.plan.most_rounds
        rounds = max(min(most, int(self.plan.seconds / once)), min(most, 2))
        print(f"  {rounds} rounds of {once:.1f} s", flush=True)
        seconds: dict[str, list[float]] = {name: [] for name in names}
        sent = {name: np.zeros(self.plan.nodes) for name in names}
        before = self._sent()
        for _ in range(rounds):
            for name in names:
                taken = self.fleet.ask("run", name=name)
                after = self._sent()
                sent[name] += after - before - self.barrier
                before = after
                seconds[name].append(float(np.max(taken)))
        return {
            name: Measured(float(np.median(seconds[name])), rounds, sent[name] / rounds)
            for name in names
        }

    def _sent(self) -> np.ndarray:
        nodes = range(self.plan.nodes)
        return np.array([self.links.counters(k).sent_payload() for k in nodes], float)


def exchanges(bench: Bench, rate: str) -> list[report.Row]:
    """Rows of exact, bfloat16 and quantized exchanges."""
    rows = []
    for size in sizes(bench.plan, rate):
        print(f"exchanges of {size} coordinates, {rate}", flush=True)
        cases = [(bits, "", 1) for bits in (EXACT, BF16)]
        plan = bench.plan
        cases += [
            (str(bits), way, chunks)
            for bits in plan.bits
            for way in plan.collectives
            for chunks in sorted({1, plan.chunks})
        ]
        facts = {
            (bits, way, chunks): prepare_exchange(bench, bits, way, size, chunks)
            for bits, way, chunks in cases
        }
        names = [n for fact in facts.values() for n in fact["names"]]
        found = bench.rounds(rate, names)
        exact = found[facts[EXACT, "", 1]["names"][0]].seconds
        for (bits, _, chunks), fact in facts.items():
            framework = "jax" if bits == BF16 else "qgenx_jax"
            framework += f", {chunks} chunks" if chunks > 1 else ""
            whole, *parts = (found[name] for name in fact["names"])
            rows.append(
                _row(bench, rate, whole, fact["sent_bytes"])
                | {"framework": framework}
                | {"collective": fact["collective"], "bits": bits}
                | {"coordinates": size, "phases": fact["phases"]}
                | _split(whole.seconds, [part.seconds for part in parts])
                | _compared(whole.seconds, exact, size)
            )
    return [_in_order(row) for row in rows]


def iterations(
    bench: Bench, rate: str, model: str, width: int, batch: int
) -> list[report.Row]:
    """Rows of iterations of the GAN, exact first."""
    print(f"iterations of the GAN, {rate}", flush=True)
    shape = {"model": model, "width": width, "batch": batch}
    gan: dict[str, str] = {}
    facts, parts = {}, {}
    for bits in (COMPUTE, EXACT, BF16, *map(str, bench.plan.bits)):
        gan[bits] = f"gan:{bits}"
        facts[bits] = bench.prepare(
            "prepare_gan", gan[bits], bits=bits, collective="auto", **shape
        )
        if bits != COMPUTE:
            way = "auto" if bits.isdigit() else ""
            size = facts[bits]["coordinates"]
            parts[bits] = prepare_exchange(bench, bits, way, size)["names"]
    # of a quantized exchange the parts; of others, which have none, the whole
    parts = {bits: names[1:] or names for bits, names in parts.items()}
    found = bench.rounds(rate, [*gan.values(), *(n for x in parts.values() for n in x)])
    compute = found[gan[COMPUTE]].seconds
    rows: list[report.Row] = []
    for bits, names in parts.items():
        whole, calls = found[gan[bits]], facts[bits]["exchanges"]
        split = [calls * found[name].seconds for name in names]
        split = split if len(split) == len(PARTS) else [0.0, split[0], 0.0]
        row = _row(bench, rate, whole, facts[bits]["sent_bytes"])
        row |= {"bits": bits, "coordinates": facts[bits]["coordinates"]}
        row |= {"exchanges": calls, "seconds compute": compute}
        row |= _split(whole.seconds - compute, split)
        row["seconds allowed"] = compute + row["seconds link"]
        rows.append(report.with_speed_ups(row, rows[0] if rows else row))
    return rows


def peers(
    bench: Bench, rate: str, rank: int, ours: Sequence[report.Row]
) -> list[report.Row]:
    """Rows of PyTorch's DistributedDataParallel, beside our exact exchange."""
    rows = []
    for size in sizes(bench.plan, rate):
        print(f"PyTorch, {size} coordinates, {rate}", flush=True)
        names = {hook: f"{hook}:{size}" for hook in HOOKS}
        for hook, name in names.items():
            bench.prepare("prepare", name, hook=hook, coordinates=size, rank=rank)
        both = [part for name in names.values() for part in (name, f"{name} compute")]
        found = bench.rounds(rate, both)
        exact = [
            row["seconds whole"]
            for row in ours
            if (row["rate"], row["coordinates"], row["collective"])
            == (rate, size, EXACT)
        ]
        for hook, name in names.items():
            bits, each = HOOKS[hook]
            whole, alone = found[name], found[f"{name} compute"].seconds
            share = 2 * (bench.plan.nodes - 1) / bench.plan.nodes
            sent = whole.sent.max() if each is None else share * each * size
            whole = whole._replace(seconds=max(whole.seconds - alone, 0.0))
            rows.append(
                _row(bench, rate, whole, round(sent))
                | {"framework": "torch", "collective": f"DDP, {hook}", "bits": bits}
                | {"coordinates": size, "phases": ""}
                | _split(whole.seconds, [])
                | _compared(whole.seconds, exact[0], size)
            )
    return [_in_order(row) for row in rows]


def sizes(plan: Plan, rate: str) -> list[int]:
    """The sizes that are not too long at a rate."""
    number = bits_per_second(rate)
    fitting = [
        report.fitting_size(size, plan.nodes, number, plan.longest)
        for size in plan.sizes
    ]
    return list(dict.fromkeys(fitting))


def prepare_exchange(
    bench: Bench, bits: str, way: str, size: int, chunks: int = 1
) -> dict[str, Any]:
    """Compiles an exchange; `names` are of the whole and, if quantized, its parts.

    Of an exchange in chunks they are of the whole alone.
    """
    name = f"{bits}:{way}:{size}:{chunks}"
    how = {"bits": bits, "collective": way or None, "chunks": chunks}
    facts = bench.prepare("prepare_exchange", name, coordinates=size, **how)
    has_parts = bits.isdigit() and chunks == 1
    parts = [f"{name} {part}" for part in PARTS] if has_parts else []
    return {**facts, "names": [name, *parts]}


def _row(bench: Bench, rate: str, whole: Measured, sent: int) -> report.Row:
    """What rows of all kinds have."""
    number = bits_per_second(rate)
    ratios = whole.sent / sent
    return {
        "nodes": bench.plan.nodes,
        "rate": rate,
        "rate bit/s": "" if np.isinf(number) else number,
        "sent bytes": sent,
        "counted / sent": float(ratios[np.argmax(np.abs(ratios - 1))]),
        "rounds": whole.rounds,
        "seconds whole": whole.seconds,
        "seconds link": report.link_seconds(sent, number),
    }


def _split(whole: float, parts: Sequence[float]) -> report.Row:
    """The parts, if there are any, and what of the whole they do not explain."""
    if not parts:
        return {f"seconds {name}": "" for name in (*PARTS, "rest")}
    named = {f"seconds {name}": x for name, x in zip(PARTS, parts, strict=True)}
    return named | {"seconds rest": whole - sum(parts)}


def _compared(seconds: float, exact: float, size: int) -> report.Row:
    speed_up = exact / seconds if seconds else ""
    return {"ns per coordinate": 1e9 * seconds / size, "speed-up": speed_up}


def _in_order(row: report.Row) -> report.Row:
    """What was measured first, then its numbers."""
    first = ("framework", "collective", "bits", "coordinates", "nodes", "rate")
    return {name: row[name] for name in first} | row
