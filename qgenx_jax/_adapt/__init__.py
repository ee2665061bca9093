"""Levels that fit the vectors at hand: counted, assumed, solved.

The files, each importing only from those before it:

- `distributions`: laws of normalised coordinates: mixtures of normals, and histograms
- `tables`: what levels may look like, what rounding to them costs, their grid
- `statistics`: what a vector is summed up by, and the law that such sums stand for
- `newton`: Newton's method on all levels at once
- `solvers`: levels of least expected variance under a law, in jit
- `optimum`: the same by dynamic programming on the host, to measure solvers by
- `fit`: levels for given vectors, by hand
- `bends`: the bend of a dither's curve, of least expected variance
- `refit`: a quantizer's levels, fitted to what it is about to encode

Words mean one thing each in here:

- coordinate u: v / n, a vector's entry over the norm of its bucket, in [-1, 1]
- law: how coordinates, or their magnitudes, are distributed over all buckets, each
  bucket weighted by its real coordinates times its squared norm
- table: levels with both ends, 0 = l_0 < ... < l_{s+1} = 1 for magnitudes, which are
  mirrored; -1 = l_0 < ... < l_n = 1 for signed coordinates; mirrored tables are
  magnitudes without zero, 0 < l_1 < ... < l_n = 1
- whole: a table with both ends, a mirrored one with a 0 before it that is no level
- variance: sum_j int_{l_j}^{l_{j+1}} (l_{j+1} - u)(u - l_j) dF(u), what rounding costs
- in use: the table that stands when nothing better is known
"""
