"""What levels, buckets and plans of bits are worth, on vectors as they are trained.

- `vectors`: recorded by the GAN program, or drawn from laws
- `methods`: quantizers by name, global, by the size of leaves, per leaf, planned
- `measure`: error and bits of each
- `__main__`: `python -m experiments.levels`
- `buckets`: buckets and scales of dithers, `python -m experiments.levels.buckets`
- `workers`: the error of the mean of K workers, `python -m experiments.levels.workers`
"""
