"""Q-GenX for JAX: extra-gradient methods with unbiased, quantized exchange.

The way of a dual vector, and the rooms it passes through:

    operator -> exchange (flatten, encode, collective, decode) -> extrapolation or
    update -> parameters
"""

# Operators: where dual vectors come from.
from qgenx_jax import problems as problems
from qgenx_jax._accumulate import AccumulateState as AccumulateState
from qgenx_jax._accumulate import accumulate as accumulate
from qgenx_jax._averaging import EmaState as EmaState
from qgenx_jax._averaging import ErgodicAverageState as ErgodicAverageState
from qgenx_jax._averaging import ema as ema
from qgenx_jax._averaging import ema_params as ema_params
from qgenx_jax._averaging import ergodic_average as ergodic_average
from qgenx_jax._averaging import ergodic_average_params as ergodic_average_params
from qgenx_jax._compose import AlternatingState as AlternatingState
from qgenx_jax._compose import alternating as alternating
from qgenx_jax._compose import chain as chain
from qgenx_jax._compose import iterate as iterate
from qgenx_jax._cost import Link as Link
from qgenx_jax._exchange import Exchange as Exchange
from qgenx_jax._exchange import ExchangeState as ExchangeState
from qgenx_jax._exchange import exchange as exchange
from qgenx_jax._extragradient import ExtragradientState as ExtragradientState
from qgenx_jax._extragradient import extra_adam as extra_adam
from qgenx_jax._extragradient import extra_sgd as extra_sgd
from qgenx_jax._extragradient import extragradient as extragradient
from qgenx_jax._families import exponential as exponential
from qgenx_jax._families import min_max as min_max
from qgenx_jax._families import uniform as uniform
from qgenx_jax._families import user_levels as user_levels
from qgenx_jax._map_workers import map_workers as map_workers
from qgenx_jax._operators import game_operator as game_operator
from qgenx_jax._pair import BeforeExtrapolation as BeforeExtrapolation
from qgenx_jax._pair import BeforeUpdate as BeforeUpdate
from qgenx_jax._pair import ExtragradientPair as ExtragradientPair
from qgenx_jax._pair import Observer as Observer
from qgenx_jax._pair import OracleFree as OracleFree
from qgenx_jax._payload import Payload as Payload
from qgenx_jax._placement import init as init
from qgenx_jax._placement import lay_out as lay_out
from qgenx_jax._qgenx import QGenXState as QGenXState
from qgenx_jax._qgenx import q_genx as q_genx
from qgenx_jax._quantize import Quantizer as Quantizer
from qgenx_jax._quantized_mean import quantized_mean as quantized_mean
from qgenx_jax._readers import x_half as x_half
from qgenx_jax._readers import x_t as x_t
from qgenx_jax._step_size import StepSize as StepSize
from qgenx_jax._step_size import adaptive_step_size as adaptive_step_size
from qgenx_jax._step_size import scheduled_step_size as scheduled_step_size
from qgenx_jax._traffic import Phase as Phase
from qgenx_jax._traffic import Traffic as Traffic
from qgenx_jax._trees import small_leaves as small_leaves
from qgenx_jax._workers import local_params as local_params
from qgenx_jax._workers import state_specs as state_specs

__version__ = "0.1.0"
