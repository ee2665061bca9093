"""Examples to copy, each a program of its own of up to 60 lines.

python -m experiments.examples.own_losses         a game of two losses, certified
python -m experiments.examples.matrix_game        simplices, and exploitability
python -m experiments.examples.rate_constrained   a Lagrangian: few are missed
python -m experiments.examples.robust_training    a network against an adversary
python -m experiments.examples.three_processes    the matrix game across processes

python -m experiments.examples.nnx_optimizer      flax's optimizer, a compressed mean
python -m experiments.examples.n_critic           five turns of a critic, two pairs
python -m experiments.examples.changing_bits      2 bits first, 8 at the end
python -m experiments.examples.checkpoint         Orbax, as many workers and fewer
python -m experiments.examples.own_rows           each process reads rows of its own
python -m experiments.examples.evaluation         X_t and an average, in the loop

Their `main` returns curves, which `python -m experiments.examples NAME` draws.
"""
