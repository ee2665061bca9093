"""Examples to copy, each a program of its own under 60 lines.

python -m experiments.examples.own_losses         a game of two losses, certified
python -m experiments.examples.matrix_game        simplices, and exploitability
python -m experiments.examples.rate_constrained   a Lagrangian: few are missed
python -m experiments.examples.robust_training    a network against an adversary
python -m experiments.examples.three_processes    the matrix game across processes
"""
