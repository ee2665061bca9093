"""What a worker knows, and all collectives. It knows no codec.

The files, each importing only from those before it:

- `failures`: what fails between workers, under one name
- `known_numbers`: what becomes of numbers that are known
- `programs`: what a traced function reads, and what it hands on
- `transposes`: gradients that a step has summed over the workers
- `branches`: choices that each worker makes for itself
- `axes`: the axis over workers, what varies over it, what is each worker's own
- `collectives`: everything that travels, by `jax.lax`
- `over_mesh`: workers along an axis of a mesh, in an ordinary jitted step
- `shares`: what of a step's arguments each worker gets there
- `plain_jit`: each worker's own gradient there
- `gradients`: of a worker's own loss
- `replicas`: whether copies are equal
- `specs`: over which axes of a mesh the leaves of a state are cut
- `placement`: where workers run, and states laid out over them
- `reshard`: states of another number of workers
- `pacing`: a compiled step as it is called, on simulated devices after the one before
- `running`: a worker's program on all of them
- `handed`: what a step hands to the next one
- `map_workers`: a step on every worker
"""
