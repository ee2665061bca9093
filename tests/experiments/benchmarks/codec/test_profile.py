"""The profile of the codec: its stages compute what they claim; nothing is timed."""

import collections
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks.codec import calls as codec_calls
from experiments.benchmarks.codec import profile_table, stages
from experiments.checks.hash_battery.draws import coordinates
from experiments.common import tables
from qgenx_jax._codec.quantizer import coder_of
from tests.lib.helpers import plainly_compiled

ROWS, LENGTH = 2, 1024
X = jax.random.normal(jax.random.key(0), (ROWS * LENGTH,))
ORDER = [
    "x+1",
    "row sums",
    "hash alone",
    "measure",
    "+ rounding",
    "+ hash",
    "+ packing",
    "encode",
    "middle floor",
    "middle",
    "decode floor",
    "unpack",
    "decode",
    "average floor",
    "average",
]


def command(*more):
    program = [
        sys.executable,
        "-m",
        "experiments.benchmarks.codec.profile",
        *more,
    ]
    return subprocess.run(
        program,
        env=plainly_compiled(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_command_prints_and_writes_a_table_and_a_figure(tmp_path):
    folder = tmp_path / "folder"
    done = command(
        "--exponents=10",
        "--bits=4",
        "--families=uniform,levels",
        "--bucket=256",
        "--payloads=2",
        "--rounds=2",
        "--threads=1",
        f"--output={folder}",
    )
    assert done.returncode == 0, done.stderr
    assert "2 of 2: levels, 4 bits, 2^10 in buckets of 256" in done.stdout
    rows = tables.read_csv(folder / "codec_profile.csv")
    found = [(row["family"], row["program"]) for row in rows]
    assert found == [(f, name) for f in ("uniform", "levels") for name in ORDER]
    for row in rows:
        assert float(row["ms"]) > 0, row
        assert bool(row["adds ms"]) == (
            row["program"] in (*profile_table.BEFORE, "measure", "unpack")
        )
    moved = {row["program"]: float(row["bytes moved"]) for row in rows}
    # float32 and a key of 8 bytes in, half a byte and four norms out
    assert moved["encode"] >= 4 + 8 / 1024 + 0.5 + 4 * 4 / 1024
    assert moved["x+1"] == 8
    assert (folder / "codec_profile.png").read_bytes().startswith(b"\x89PNG")


def test_a_bucket_that_does_not_divide_is_refused():
    done = command("--exponents=10", "--bucket=96")
    assert done.returncode != 0
    assert "--bucket must divide all sizes" in done.stderr + done.stdout


def codes_of(stored, bits):
    """(rows, length) codes from what `side_by_side` returns; bytes, lowest first."""
    if bits not in (1, 2, 4, 8):
        (codes,) = stored
        return np.asarray(codes)
    pieces = {}
    for first, word in enumerate(stored):
        as_bytes = np.asarray(word).view(np.uint8).reshape(*word.shape, -1)
        for place in range(as_bytes.shape[-1]):
            pieces[first + place * len(stored)] = as_bytes[..., place]
    return np.concatenate([pieces[i] for i in range(len(pieces))], axis=1)


@pytest.mark.usefixtures("compiled_plainly")
@pytest.mark.parametrize(
    ("family", "bits"),
    [("uniform", 8), ("uniform", 4), ("uniform", 1), ("min_max", 3), ("levels", 2)],
)
def test_stages_compute_what_they_claim(family, bits):
    quantizer = codec_calls.create_quantizer(family, bits)
    programs = stages.programs(quantizer, X, 2)
    assert list(programs) == ORDER
    _, key, _ = programs["+ hash"].arguments
    bucket = X.reshape(ROWS, LENGTH)
    exact = np.asarray(bucket, np.float64)
    rounding = 2.0**-23 * np.abs(exact).sum()
    np.testing.assert_allclose(programs["row sums"](), exact.sum(1), 0, rounding)
    # the whole codec, and what it opens
    payload = quantizer.encode(key, X)
    np.testing.assert_array_equal(programs["encode"](), payload.data)
    np.testing.assert_array_equal(programs["decode"](), quantizer.decode(payload))
    ((codes, meta),) = quantizer.records(payload)
    (opened,) = programs["unpack"]()
    assert opened.dtype == jnp.uint8
    np.testing.assert_array_equal(opened.reshape(ROWS, LENGTH), codes)
    # the stages of the encoder
    ((grid, measured),) = programs["measure"]()
    np.testing.assert_array_equal(measured, meta)
    ((stored, beside),) = programs["+ hash"]()
    np.testing.assert_array_equal(codes_of(stored, bits), codes)
    np.testing.assert_array_equal(beside, meta)
    assert sum(x.nbytes for x in stored) == X.size, "not a byte for each coordinate"
    ((planes, beside),) = programs["+ packing"]()
    as_bytes = np.asarray(beside).view(np.uint8)
    records = np.concatenate([*planes, as_bytes], axis=1)
    np.testing.assert_array_equal(records.reshape(-1), payload.data)
    # one word's upper half for a row's first half, the lower one for the rest
    word = jax.random.bits(key, (2,), jnp.uint32)[0]
    halves = jnp.stack([word >> 16, word & 0xFFFF]).repeat(LENGTH // 2)
    r16 = halves[None].astype(jnp.int32)
    ((stored, beside),) = programs["+ rounding"]()
    alike = coder_of(quantizer, X.dtype).rounding.round(bucket, grid, r16)
    np.testing.assert_array_equal(codes_of(stored, bits), alike)
    np.testing.assert_array_equal(beside, meta)
    assert not np.array_equal(alike, codes), "random bits round like one word"
    # the hash
    (stored,) = programs["hash alone"]()
    r16 = np.asarray(coordinates(key, X.shape)).reshape(ROWS, LENGTH)
    np.testing.assert_array_equal(codes_of(stored, bits), (r16 ^ (r16 >> 8)) & 255)


ARITHMETIC = ("xor", "round-nearest-even", "subtract", "divide", "minimum", "maximum")
MULTIPLIER = f"constant({0xED5AD4BB})"  # of the hash


@pytest.mark.parametrize("bits", [8, 4, 3])
def test_stages_are_compiled_as_the_encoder_is(bits):
    """As many loops, and as much arithmetic in them: fused otherwise, they differ."""
    quantizer = codec_calls.create_quantizer("uniform", bits)
    programs = stages.programs(quantizer, X, 2)
    text = {
        name: programs[name].compile().as_text()
        for name in ("hash alone", "+ rounding", "+ hash", "+ packing", "encode")
    }
    hashes = {name: program.count(MULTIPLIER) for name, program in text.items()}
    drawn = {8: 2, 4: 1, 3: 8}[bits]  # loops that draw, in each of which it is once
    assert hashes == {name: drawn * (name != "+ rounding") for name in text}
    counts = {}
    for name in ("+ hash", "+ packing", "encode"):
        found = collections.Counter(re.findall(r"= \S+ ([a-z\-]+)\(", text[name]))
        counts[name] = {op: found[op] for op in ARITHMETIC}
    assert counts["+ hash"] == counts["+ packing"] == counts["encode"]
    assert all('inlineable="false"' in program for program in text.values())


def test_columns_by_hand():
    seconds = {name: np.array([4e-3, 2e-3]) for name in ORDER}
    seconds["x+1"] = np.array([1e-3, 0.5e-3])
    seconds["encode"] = np.array([6e-3, 6e-3])
    seconds["unpack"] = np.array([0.75e-3, 0.75e-3])
    facts = {name: {"moved": 6000, "flops": 3000.0, "accessed": None} for name in ORDER}
    found = profile_table.columns(seconds, facts, size=1000)
    rows = {row["program"]: row for row in found}
    assert rows["encode"]["ms"] == pytest.approx(6)
    assert rows["measure"]["ms, best"] == pytest.approx(2)
    adds = {"x+1": "", "measure": 3, "+ packing": 0, "encode": 3, "middle": -3}
    adds |= {"unpack": 0.75, "decode": 2.25, "average": 0, "average floor": ""}
    for name, expected in adds.items():
        found = rows[name]["adds ms"]
        assert found == (expected if expected == "" else pytest.approx(expected)), name
    assert rows["measure"]["of whole"] == pytest.approx(0.5)
    assert rows["unpack"]["of whole"] == pytest.approx(0.25)
    assert rows["encode"]["ns / coordinate"] == pytest.approx(6000)
    assert rows["encode"]["GB/s"] == pytest.approx(1e-3)  # 6 kB in 6 ms
    assert rows["encode"]["/ x+1"] == pytest.approx(8)
    assert rows["encode"]["/ x+1, best"] == pytest.approx(12)
    assert rows["encode"]["flops"] == 3
    assert rows["encode"]["bytes accessed"] == ""


def test_parts_add_up_to_the_last_stage():
    stages = {"a": "A", "b": "B", "c": "C"}
    parts = profile_table.parts
    assert parts({"a": 1, "b": 3, "c": 4}, stages) == {"A": 1, "B": 2, "C": 1}
    # b stores more than c
    assert parts({"a": 1, "b": 3, "c": 2}, stages) == {"A": 1, "B": 1, "C": 0}
