"""One flat vector to bytes and back. It knows no axis and no tree.

The files, each importing only from those before it:

- `levels`: tables of levels, checked, searched and looked up
- `scales`: maxima and norms of buckets, numbers of few significant bits
- `bend`: the curves of companded dithers
- `packing`: codes of b bits, and floats, to bytes and back
- `orders`: one-to-one maps of 16 bits
- `bits`: the 16 random bits of each coordinate, a hash of key and position
- `fusion`: where XLA's fusion has to stop
- `rotation`: random signs and a Hadamard matrix, before a bucket is rounded
- `rounding`: what a family of quantizers has to do, and the table of families
- `records`: buckets to records and back, step by step
- `coder`: a vector to bytes, bytes to a mean, bytes to a mean to bytes
- `schedule`: when levels are fitted anew
- `payload`: what a worker sends for one array
- `quantizer`: the public description, and the coder of it
- `families`: one file for each family, which enters the table, with its factory

Words mean one thing each in here:

- vector: what is encoded, flat, of any length
- bucket: a run of its coordinates that share a scale; full, or the short last one
- piece: one of the equal runs that a bucket is rounded and packed in; a coordinate's
  random bits depend on the piece, so whoever draws them again has to cut alike
- run: one of the equal runs that packed codes are read in; a piece, or two of them
- code, level: the unsigned number that a coordinate becomes, and what it stands for
- grid: what `measure` finds for `round`; meta: what of it travels
- record: the bytes of a bucket, packed codes and then meta
- payload: what a worker sends for one array; rows are the payloads of K workers
- mean: always that over rows, added up in their order
- encode, decode: to bytes and from bytes, and nothing else; rounding has `round` and
  `values`
- turned: of buckets, times the matrix of `rotation`
- padding: what follows the real coordinates of a vector, and counts in no scale
"""
