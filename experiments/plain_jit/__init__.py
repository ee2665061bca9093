"""Compression in an ordinary training script, by three lines: before and after.

- `before`: the script, with nothing of this library
- `after`: the same, with an exchange of 4 bits
- `scripts`: both, with other quantizers in them, run and timed
- `__main__`: their losses, and how long they take to compile
"""
