"""Slow proofs, each a program: too long for the test suite, or not a test.

`digests` prints what codec, exchanges and methods compute, to the bit. `hash_battery`
tests the bits that decide roundings. `mutation` changes the library's arithmetic and
asks whether its tests notice. `fuzz_streams` encodes and decodes random
codes. `quickstart_digits` asks whether what the quick start draws can be read.
"""
