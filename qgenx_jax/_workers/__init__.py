"""What a worker knows, and all collectives. It knows no codec.

The files, each importing only from those before it:

- `axes`: the axis over workers, what varies over it, what is each worker's own
- `collectives`: everything that travels, by `jax.lax`
- `replicas`: whether copies are equal
- `specs`: over which axes of a mesh the leaves of a state are cut
- `placement`: where workers run, and states laid out over them
- `pacing`: steps on simulated devices, each after the one before
- `map_workers`: a step on every worker
"""
