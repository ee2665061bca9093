"""A tree per worker goes in, the mean over workers comes out on all of them.

The files, each importing only from those before it:

- `layout`: a tree to flat vectors and back, and which leaves travel exact
- `groups`: quantizers by label, and labels of leaves
- `parts`: a flat vector with its coders, and its chunks
- `traffic`: bytes counted beforehand, and what a link takes for them
- `streams`: whose random bits round what
- `checksum`: whether bytes arrive as they were sent
- `strategy`: what every strategy does
- `strategies`: one file for each: `all_reduce`, exact; `all_gather`, quantized in one
  phase; `reduce_scatter`, in two; `hierarchical`, exact within a host
- `shards`: a strategy for each set of axes that shards of a model vary over
- `choice`: the table of them, and which one an exchange goes by
- `weights`: means of workers that count for more or less
- `derivative`: of what is rounded, as if it were not
- `refresh`: levels fitted anew to what is sent
- `state`: what an exchange remembers
- `exchange`: the exchange itself
- `sharded`: one of leaves that jit cuts over other axes
- `factory`: how users make one
- `knapsack`: one of several choices for each unit, of least value within a budget
- `plan`: a quantizer for each leaf, chosen beforehand
- `recorded`: vectors that are planned for, and their variances
- `assigned`: leaves that share a quantizer, and their bytes
- `splits`: leaves of one quantizer in several groups, by their scales
- `candidates`: the quantizers that a plan chooses from
- `planner`: bits for each leaf, of least variance within a budget of bytes
- `plain_jit`: the mean of an ordinary jitted step's gradients, by an exchange
- `quantized_mean`: one as an optax transformation
- `cuts`: parameters that are cut over the workers, and rows of them
- `gathering`: these put together, and the mean gradient cut again
- `gather_params`: the same as users call it, and its bytes
"""
