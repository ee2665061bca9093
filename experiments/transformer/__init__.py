"""Data-parallel training of a small transformer, to see what an exchange costs in loss.

- `text`: bytes to learn, the sources of Python's own library
- `model`: a decoder of bytes, in Flax
- `exchanges`: what is compared, by name
- `training`: one run, K workers in one program
- `__main__`: `python -m experiments.transformer`
"""
