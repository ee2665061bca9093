"""Compression in an ordinary training script, by three lines: before and after.

- `before`: the script, with nothing of this library
- `after`: the same, with an exchange of 4 bits
- `__main__`: their losses, and how long they take to compile
"""
