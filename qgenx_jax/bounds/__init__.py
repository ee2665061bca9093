"""What quantization costs, before and after it is done: variances and bits.

Symbols, here and in the files:

    v        a bucket of d coordinates; n = ||v||_q its norm, q = 1, 2 or infinity
    l_j      0 = l_0 < l_1 < ... < l_{s+1} = 1: levels that u_i = |v_i| / n go to
    Q(v)     what decodes, E Q(v) = v; its variance is E ||Q(v) - v||_2^2
    K        workers, whose Q(v_k) are independent or not positively correlated

Variances are in the square of the vector's unit, or, as bounds, without a unit: over
||v||_2^2. Lengths are in bits. NumPy arrays are computed with in NumPy, in float64 as a
rule, and give NumPy arrays; JAX arrays, traced or not, give JAX arrays.

The files, each importing only from those before it:

- `tables`: the levels of a quantizer or of a caller, and how far a codec is from them
- `dithers`: the same of companded dither, and what two workers have in common
- `variance`: bounds for all vectors
- `sent`: what a codec may send for each coordinate, and how often
- `given_vector`: the exact variance and the frequencies of codes, of one vector
- `of_tree`: the same of a tree, as a share of it
- `mean_variance`: the exact variance of the mean of given vectors
- `code_length`: entropy, frequencies of levels, bounds for the length of a code
"""

from qgenx_jax.bounds.code_length import CodeLength as CodeLength
from qgenx_jax.bounds.code_length import Distribution as Distribution
from qgenx_jax.bounds.code_length import code_length_bound as code_length_bound
from qgenx_jax.bounds.code_length import entropy as entropy
from qgenx_jax.bounds.code_length import level_probabilities as level_probabilities
from qgenx_jax.bounds.given_vector import code_probabilities as code_probabilities
from qgenx_jax.bounds.given_vector import exact_variance as exact_variance
from qgenx_jax.bounds.mean_variance import mean_variance as mean_variance
from qgenx_jax.bounds.of_tree import error as error
from qgenx_jax.bounds.variance import variance_bound as variance_bound
