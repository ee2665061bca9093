"""Q-GenX for JAX: extra-gradient methods with unbiased, quantized exchange.

The way of a dual vector, and the rooms it passes through:

    operator   -> exchange (flatten, encode, collective, decode) -> half-step
    problems      _exchange  _codec  _workers                       _methods
"""

from qgenx_jax import bounds as bounds
from qgenx_jax import check as check
from qgenx_jax import entropy as entropy
from qgenx_jax import problems as problems
from qgenx_jax._adapt.bends import fit_bend as fit_bend
from qgenx_jax._adapt.fit import fit_levels as fit_levels
from qgenx_jax._codec.families.adaptive import adaptive as adaptive
from qgenx_jax._codec.families.best import best as best
from qgenx_jax._codec.families.dithered import dithered as dithered
from qgenx_jax._codec.families.min_max import min_max as min_max
from qgenx_jax._codec.families.rotated import rotated as rotated
from qgenx_jax._codec.families.uniform import uniform as uniform
from qgenx_jax._codec.families.with_levels import exponential as exponential
from qgenx_jax._codec.families.with_levels import user_levels as user_levels
from qgenx_jax._codec.payload import Payload as Payload
from qgenx_jax._codec.quantizer import Quantizer as Quantizer
from qgenx_jax._exchange.cuts import shard_specs as shard_specs
from qgenx_jax._exchange.exchange import Exchange as Exchange
from qgenx_jax._exchange.factory import exchange as exchange
from qgenx_jax._exchange.gather_params import gather_params as gather_params
from qgenx_jax._exchange.gather_params import gather_traffic as gather_traffic
from qgenx_jax._exchange.groups import by_size as by_size
from qgenx_jax._exchange.layout import no_leaves as no_leaves
from qgenx_jax._exchange.layout import small_leaves as small_leaves
from qgenx_jax._exchange.plan import Plan as Plan
from qgenx_jax._exchange.planner import plan_bits as plan_bits
from qgenx_jax._exchange.quantized_mean import quantized_mean as quantized_mean
from qgenx_jax._exchange.state import ExchangeState as ExchangeState
from qgenx_jax._exchange.traffic import Link as Link
from qgenx_jax._exchange.traffic import Phase as Phase
from qgenx_jax._exchange.traffic import Traffic as Traffic
from qgenx_jax._methods.accumulate import AccumulateState as AccumulateState
from qgenx_jax._methods.accumulate import accumulate as accumulate
from qgenx_jax._methods.adam_weights import adam_weights as adam_weights
from qgenx_jax._methods.alternating import AlternatingState as AlternatingState
from qgenx_jax._methods.alternating import alternating as alternating
from qgenx_jax._methods.averaging import EmaState as EmaState
from qgenx_jax._methods.averaging import ErgodicAverageState as ErgodicAverageState
from qgenx_jax._methods.averaging import ema as ema
from qgenx_jax._methods.averaging import ema_params as ema_params
from qgenx_jax._methods.averaging import ergodic_average as ergodic_average
from qgenx_jax._methods.averaging import (
    ergodic_average_params as ergodic_average_params,
)
from qgenx_jax._methods.chain import chain as chain
from qgenx_jax._methods.extragradient import ExtragradientState as ExtragradientState
from qgenx_jax._methods.extragradient import extra_adam as extra_adam
from qgenx_jax._methods.extragradient import extra_sgd as extra_sgd
from qgenx_jax._methods.extragradient import extragradient as extragradient
from qgenx_jax._methods.iterate import iterate as iterate
from qgenx_jax._methods.local_steps import LocalSteps as LocalSteps
from qgenx_jax._methods.local_steps import local_steps as local_steps
from qgenx_jax._methods.local_steps_state import LocalStepsState as LocalStepsState
from qgenx_jax._methods.local_steps_state import x_local as x_local
from qgenx_jax._methods.optimistic import OptimisticState as OptimisticState
from qgenx_jax._methods.optimistic import optimistic as optimistic
from qgenx_jax._methods.pair import BeforeExtrapolation as BeforeExtrapolation
from qgenx_jax._methods.pair import BeforeUpdate as BeforeUpdate
from qgenx_jax._methods.pair import ExtragradientPair as ExtragradientPair
from qgenx_jax._methods.pair import Observer as Observer
from qgenx_jax._methods.pair import OracleFree as OracleFree
from qgenx_jax._methods.partition import PartitionState as PartitionState
from qgenx_jax._methods.partition import partition as partition
from qgenx_jax._methods.prox import entropic as entropic
from qgenx_jax._methods.q_genx import q_genx as q_genx
from qgenx_jax._methods.q_genx_state import QGenXState as QGenXState
from qgenx_jax._methods.readers import x_half as x_half
from qgenx_jax._methods.readers import x_t as x_t
from qgenx_jax._methods.skip_not_finite import (
    SkipNotFiniteState as SkipNotFiniteState,
)
from qgenx_jax._methods.skip_not_finite import skip_not_finite as skip_not_finite
from qgenx_jax._methods.step_size import StepSize as StepSize
from qgenx_jax._methods.step_size import adaptive_step_size as adaptive_step_size
from qgenx_jax._methods.step_size import scheduled_step_size as scheduled_step_size
from qgenx_jax._workers.axes import local_params as local_params
from qgenx_jax._workers.failures import ExchangeError as ExchangeError
from qgenx_jax._workers.gradients import value_and_grad as value_and_grad
from qgenx_jax._workers.map_workers import map_workers as map_workers
from qgenx_jax._workers.placement import init as init
from qgenx_jax._workers.placement import lay_out as lay_out
from qgenx_jax._workers.replicas import Drift as Drift
from qgenx_jax._workers.replicas import check_replicas as check_replicas
from qgenx_jax._workers.reshard import reshard as reshard
from qgenx_jax._workers.specs import state_specs as state_specs
from qgenx_jax.check.exchanges import check_exchange as check_exchange
from qgenx_jax.problems.games import game_operator as game_operator

__version__ = "0.1.0"
