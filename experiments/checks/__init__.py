"""Slow proofs, each a program: too long for the test suite, or not a test."""
