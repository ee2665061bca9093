"""Faults put into training runs on purpose, and what comes of them.

- `runs`: small runs to disturb, and what they leave.
- `starts`: the processes of a run, started, watched and ended.
- `leftovers`: what a run may leave behind that it should not.
- `kills`: SIGKILL at random moments.
- `soak`: kills, freezes, stalls and SIGTERM for an hour, under a supervisor.
- `flip_bits`: one bit of a checkpoint's files.
- `cost`: what it costs that nothing hangs.
"""
