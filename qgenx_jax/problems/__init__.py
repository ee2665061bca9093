"""Where dual vectors come from: operators of games, small VIs with known solutions.

The files, each importing only from those before it:

- `games`: the joint operator of a game from its players' losses
- `noise`: stochastic oracles, and operators that differ by worker
- `problem`: the protocol that all problems follow
- `spectra`: constants of affine operators
- `affine`: affine VIs with noisy oracles and exact gaps
"""

from qgenx_jax.problems.affine import AffineProblem as AffineProblem
from qgenx_jax.problems.affine import bilinear as bilinear
from qgenx_jax.problems.affine import cocoercive as cocoercive
from qgenx_jax.problems.affine import quadratic_game as quadratic_game
from qgenx_jax.problems.problem import Problem as Problem
