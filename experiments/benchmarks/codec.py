"""How long the codec takes, beside what no codec can be faster than.

    python -m experiments.benchmarks.codec [--exponents=22] [--bits=8,4,3,2]

For vectors of 2^exponent float32: encoding beside `x + 1`, and decoding and averaging K
payloads beside reading them and writing one float32 vector, both as milliseconds and as
ratios measured in the same rounds.
"""

from absl import app, flags

_EXPONENTS = flags.DEFINE_list("exponents", ["22"], "sizes are 2 to these powers")
_BITS = flags.DEFINE_list("bits", ["8", "4", "3", "2"], "bits per coordinate")
_FAMILIES = flags.DEFINE_list(
    "families", ["uniform"], "of uniform, exponential, min_max"
)
_SOURCE = flags.DEFINE_enum("source", "counter", ["counter", "threefry"], "random bits")
_PAYLOADS = flags.DEFINE_integer("payloads", 3, "K, payloads that are averaged", 1)
_REPEATS = flags.DEFINE_integer("repeats", 15, "rounds; medians are printed", 1)
_CSV = flags.DEFINE_string("csv", "", "also write the table here")


def measure(exponent: int, family: str, bits: int) -> dict[str, float | int | str]:
    """One row of the table."""
    import jax
    import jax.numpy as jnp

    import qgenx_jax as qgenx
    from experiments.benchmarks import timing

    size, count = 2**exponent, _PAYLOADS.value
    make = {
        "uniform": qgenx.uniform,
        "exponential": qgenx.exponential,
        "min_max": qgenx.min_max,
    }
    if family not in make:
        raise app.UsageError(f"families must be of {list(make)}, got {family!r}")
    quantizer = make[family](bits, source=_SOURCE.value)
    key = jax.random.key(0)
    x = jax.random.normal(key, (size,))
    payload = quantizer.encode(key, x)
    payloads = jnp.stack([payload.data] * count)

    def mean(payloads: jax.Array) -> jax.Array:
        total = jnp.zeros(size)
        for data in payloads:
            total += quantizer.decode(qgenx.Payload(data, (size,), x.dtype))
        return total / count

    plus_one = jax.jit(lambda x: x + 1)
    uniform = jax.jit(lambda key: jax.random.uniform(key, (size,)))
    encode = jax.jit(lambda key, x: quantizer.encode(key, x).data)
    decode = jax.jit(mean)
    floor = jax.jit(lambda p: jnp.full(size, jnp.max(p).astype(jnp.float32)))
    ms = {
        name: 1e3 * seconds
        for name, seconds in timing.seconds_side_by_side(
            {
                "x + 1": lambda: plus_one(x),
                "jax.random.uniform": lambda: uniform(key),
                "encode": lambda: encode(key, x),
                "decode": lambda: decode(payloads),
                "floor": lambda: floor(payloads),
            },
            _REPEATS.value,
        ).items()
    }
    return {
        "family": family,
        "bits": bits,
        "size": size,
        "x+1 ms": ms["x + 1"],
        "random.uniform ms": ms["jax.random.uniform"],
        "encode ms": ms["encode"],
        "encode / x+1": ms["encode"] / ms["x + 1"],
        f"decode {count} ms": ms["decode"],
        "read and write ms": ms["floor"],
        "decode / read and write": ms["decode"] / ms["floor"],
        "bits per coordinate": 8 * payload.nbytes / size,
    }


def main(argv: list[str]) -> None:
    """Measures all combinations."""
    del argv
    import jax

    from experiments.benchmarks import tables

    print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}", flush=True)
    rows = []
    for exponent in map(int, _EXPONENTS.value):
        for family in _FAMILIES.value:
            for bits in map(int, _BITS.value):
                print(f"2^{exponent}, {family}, {bits} bits", flush=True)
                rows.append(measure(exponent, family, bits))
    tables.print_table(rows)
    if _CSV.value:
        tables.write_csv(rows, _CSV.value)


if __name__ == "__main__":
    app.run(main)
