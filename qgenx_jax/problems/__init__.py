"""Where dual vectors come from: operators of games, small VIs with known solutions.

The files, each importing only from those before it:

- `games`: the joint operator of a game from its players' losses
- `arrays`: checks of the arrays that problems are made of
- `noise`: stochastic oracles, and operators that differ by worker
- `problem`: the protocol that all problems follow
- `spectra`: constants of affine operators
- `affine`: affine VIs with noisy oracles and exact gaps
- `sets`: boxes, simplices and their products
- `interior`: solutions of affine VIs over them
- `certified`: gaps of affine VIs over them, between two bounds
- `game_problem`: problems made of their parts, and of players' losses
- `constrained`: affine VIs over boxes and simplices
- `matrix_games`: zero-sum games of two players with a table of payoffs
- `lagrangians`: quadratic programs, with multipliers as a player
- `data`: problems made of rows of data, split over workers
- `regression`: least squares and logistic regression
- `robust`: logistic regression against an adversary that weighs the examples
- `gans`: small adversarial games that are not monotone
"""

from qgenx_jax.problems.affine import AffineProblem as AffineProblem
from qgenx_jax.problems.affine import bilinear as bilinear
from qgenx_jax.problems.affine import cocoercive as cocoercive
from qgenx_jax.problems.affine import quadratic_game as quadratic_game
from qgenx_jax.problems.constrained import constrained as constrained
from qgenx_jax.problems.game_problem import GameProblem as GameProblem
from qgenx_jax.problems.game_problem import game_problem as game_problem
from qgenx_jax.problems.gans import dirac_gan as dirac_gan
from qgenx_jax.problems.gans import wasserstein_gan_2d as wasserstein_gan_2d
from qgenx_jax.problems.lagrangians import (
    equality_constrained as equality_constrained,
)
from qgenx_jax.problems.lagrangians import (
    resource_allocation as resource_allocation,
)
from qgenx_jax.problems.matrix_games import MatrixGame as MatrixGame
from qgenx_jax.problems.matrix_games import kuhn_poker as kuhn_poker
from qgenx_jax.problems.matrix_games import matrix_game as matrix_game
from qgenx_jax.problems.matrix_games import random_matrix_game as random_matrix_game
from qgenx_jax.problems.matrix_games import (
    rock_paper_scissors as rock_paper_scissors,
)
from qgenx_jax.problems.problem import Problem as Problem
from qgenx_jax.problems.regression import least_squares as least_squares
from qgenx_jax.problems.regression import (
    logistic_regression as logistic_regression,
)
from qgenx_jax.problems.robust import (
    robust_logistic_regression as robust_logistic_regression,
)
