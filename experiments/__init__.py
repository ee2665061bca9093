"""Experiments built on qgenx_jax, each a package run with ``python -m``."""
