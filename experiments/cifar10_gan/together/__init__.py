"""The processes of a run as one: they begin alike, decide alike, and end together.

- `wire`: messages between two processes.
- `progress`: where a process is, and who is late.
- `handshake`: what all processes must have alike.
- `meeting`: they find each other, before JAX starts.
- `crew`: what they tell each other while they run.
- `leaving`: how a process ends, with the others.
- `votes`: what all processes decide from one exchanged value.
- `signals`: SIGTERM and interrupts, on all processes at the same iteration.
- `starting`: JAX's own part.

JAX's collectives wait for a process that never comes, and its coordination service ends
in an abort. So each process holds a connection of its own to process 0, over which few
and short messages go: a process that is gone closes it at once, whatever ended it.
"""
