"""The optimizers' names, and what they have in common."""

ADAMS = ("extra_adam", "adam", "optimistic_adam")
SGDS = ("extra_sgd", "sgd", "omd")
WITH_MOMENTUM = ("extra_sgd", "sgd")
EXTRAPOLATED = ("extra_adam", "extra_sgd")
"""Half-steps of a base optimizer: two oracle calls per update."""
OPTIMISTIC = ("optimistic_adam", "omd")
"""Those extrapolate from the past: one call, the last step is used again."""
Q_GENX = ("dual_averaging", "dual_extrapolation", "optimistic")
"""Variants of Q-GenX, which adapts its step sizes to the joint vectors."""
NAMES = (*ADAMS, *SGDS, *Q_GENX)
