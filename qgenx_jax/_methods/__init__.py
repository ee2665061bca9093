"""Half-steps: what is done with dual vectors, as optax transformations.

The files, each importing only from those before it:

- `moves`: whether an optimizer hands on what `alternating` makes
- `pair`: the two half-steps, which share one state
- `known_leaves`: what states know of the parameters, put together
- `skips`: whether a transformation may skip an update
- `inner`: plain optax transformations within others
- `step_size`: rules for gamma_t
- `metric`: step sizes that differ between players
- `prox`: projections and mirror maps, of one set
- `constraints`: feasible sets, for all parameters or for each player
- `exchanging`: what contains an exchange, and its bytes
- `q_genx_state`: what that method below keeps between half-steps
- `q_genx`: algorithm 1, three variants
- `extragradient`: any optax optimizer, extrapolated
- `optimistic`: any optax optimizer, extrapolated from the past
- `accumulate`: vectors added up around an exchange
- `skip_not_finite`: what a NaN would do, undone
- `averaging`: averages of the iterates
- `chain`: transformations, a pair and observers as one pair
- `partition`: a pair for each player, as one pair
- `alternating`: a pair as one transformation
- `local_steps_state`: what that method below keeps between exchanges
- `local_steps`: steps of each worker alone, and an exchange of what they moved
- `iterate`: a pair as a function
- `readers`: where an optimizer stands
- `adam_weights`: what an error does to a step of Adam
"""
