"""What XLA's GPU backend makes of the codec, compiled for an H100 that is not there.

    python -m pip install "jax[cuda12]"
    python -m tests.gpu_programs --size=24 --output=FOLDER

needs JAX's CUDA plugin, but neither a GPU nor a driver. It prints how many kernels each
program has, how many of them read the vector or the payloads (in part, where they read
scales), and the bytes of temporaries, and exits with 1 where a program keeps as many of
these as the vector has coordinates, as stored random bits would be, or where a program
by Pallas has more than one kernel that reads. The mean that is encoded again is what an
exchange of two phases makes between them; by XLA it may store a vector. `--output`
keeps the optimized HLO. Nothing is run, so nothing is said about time.
"""

import argparse
import pathlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import qgenx_jax as qgenx
from qgenx_jax import _pallas_recode

# what the compiler asks of a device
H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  l2_cache_size: 52428800
  memory_bandwidth: 3352320000000
  device_memory_size: 84942979072
  clock_rate_ghz: 1.98
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
WORKERS = 3


def programs(quantizer: qgenx.Quantizer, size: int) -> dict[str, tuple[Callable, Any]]:
    """Name, function and its arguments' shapes; the last argument is what is read."""
    vector = jax.ShapeDtypeStruct((size,), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    payload = jax.eval_shape(quantizer.encode, key, vector)
    payloads = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((WORKERS, *x.shape), x.dtype), payload
    )

    def average(payloads):
        each = [jax.tree.map(lambda x, k=k: x[k], payloads) for k in range(WORKERS)]
        return sum(map(quantizer.decode, each)) / WORKERS

    encode = {"encode": (quantizer.encode, (key, vector))}
    if quantizer.kernel != "xla":  # which concerns nothing else
        return encode
    return {
        **encode,
        "decode": (quantizer.decode, (payload,)),
        f"decode and average {WORKERS}": (average, (payloads,)),
    }


def recodes(
    first: qgenx.Quantizer, second: qgenx.Quantizer, size: int, workers: int
) -> dict[str, tuple[Callable, Any]]:
    """As `programs`, of payloads to their mean's payload: kernel, function, shapes."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    float32 = np.dtype("float32")
    shape = workers, first.n_bytes(size)
    forms = [(x._codec(None), x._format(size, float32)) for x in (first, second)]
    kernel = _pallas_recode.recoder_for(*forms[0], *forms[1], shape)
    assert kernel, f"no kernel for {first} and {second}"

    def by_xla(key, payloads):
        mean = first.mean_of(payloads, size, float32, None)
        return second.records_of(key, mean, size, None)

    def by_pallas(key, payloads):
        return kernel(payloads, key)

    shapes = key, jax.ShapeDtypeStruct(shape, jnp.uint8)
    return {"xla": (by_xla, shapes), "pallas": (by_pallas, shapes)}


def table(size: int) -> Iterator[tuple[str, bool, int, Callable, Any]]:
    """Title, whether to be read once, bytes that are too many, function, shapes."""
    uniform, min_max = qgenx.uniform, qgenx.min_max
    for family, bits, kernel in (
        *((uniform, bits, "xla") for bits in (8, 4, 2)),
        (min_max, 4, "xla"),
        *((uniform, bits, "pallas") for bits in (8, 4, 2, 1)),
        *((min_max, bits, "pallas") for bits in (8, 4, 2, 1)),
    ):
        quantizer = family(bits=bits, bucket_size=1024, kernel=kernel)
        by = "" if kernel == "xla" else f" by {kernel}"
        for name, (function, shapes) in programs(quantizer, size).items():
            title = f"{family.__name__} {bits}, {name}{by}"
            yield title, kernel == "pallas", size, function, shapes
    for first, second, workers in (
        (uniform(8), uniform(8), 4),
        (uniform(4), uniform(4), 4),
        (uniform(4), uniform(4), 16),
        (uniform(1), uniform(1), 4),
        (uniform(1), min_max(8), 4),
        (min_max(8), uniform(1), 4),
        (min_max(4), min_max(2), 4),
    ):
        for by, (function, shapes) in recodes(first, second, size, workers).items():
            names = [f"{x.family} {x.bits}" for x in (first, second)]
            title = f"{names[0]} to {names[1]}, {workers} by {by}"
            most = size if by == "pallas" else 5 * size
            yield title, by == "pallas", most, function, shapes


def kernels(text: str) -> list[tuple[str, list[str]]]:
    """Kernels of an optimized program, and the operands of each."""
    entry = text[text.index("\nENTRY ") :]
    call = r"%(\S+) = [^\n]*? (?:fusion|custom-call)\(([^)]*)\)"
    found = re.findall(call, entry)
    return [(name, re.findall(r"%([\w.]+)", operands)) for name, operands in found]


def parameter(text: str, index: int) -> str:
    """The name of the program's parameter of that index."""
    entry = text[text.index("\nENTRY ") :]
    found = re.search(rf"%(\S+) = [^\n]*? parameter\({index}\)", entry)
    assert found, f"the program has no parameter {index}"
    return found[1]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        "python -m tests.gpu_programs", description=__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--size", type=int, default=24, help="log2 of the size, 24")
    parser.add_argument("--output", type=pathlib.Path, help="folder for the HLO")
    options = parser.parse_args()
    size, failed = 2**options.size, False
    try:
        (device,) = topologies.get_topology_desc(
            "H100", "cuda", topology="1x1x1", target_config=H100
        ).devices
    except NotImplementedError:
        parser.error('needs JAX\'s CUDA plugin: pip install "jax[cuda12]"')
    sharding = NamedSharding(Mesh(np.array([device]), ("x",)), PartitionSpec())
    print(f"{'program':<40}{'kernels':>8}{'reading':>9}{'temporary bytes':>17}")
    for title, once, most, function, shapes in table(size):
        lowered = jax.jit(function, in_shardings=sharding).lower(*shapes)
        compiled = lowered.compile()
        text = compiled.as_text()
        assert text is not None
        read = parameter(text, len(shapes) - 1)
        found = kernels(text)
        reads = sum(read in operands for _, operands in found)
        temporary = compiled.memory_analysis().temp_size_in_bytes
        failed |= temporary >= most or (once and reads != 1)
        print(f"{title:<40}{len(found):>8}{reads:>9}{temporary:>17}", flush=True)
        if options.output:
            options.output.mkdir(parents=True, exist_ok=True)
            path = options.output / f"{title.replace(', ', '_')}.hlo"
            path.write_text(text)
    sys.exit(failed)


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")  # arrays; programs are for the device
    main()
