"""How users make an exchange, or hand on one that is ready."""

import inspect
from collections.abc import Mapping
from typing import Any

from qgenx_jax import _checks, _random
from qgenx_jax._codec.bits import ROUNDINGS
from qgenx_jax._codec.quantizer import Quantizer
from qgenx_jax._exchange import choice, groups
from qgenx_jax._exchange.exchange import Exchange
from qgenx_jax._exchange.groups import Labels
from qgenx_jax._exchange.layout import no_leaves
from qgenx_jax._exchange.sharded import sharded
from qgenx_jax._exchange.traffic import DEFAULT, Link
from qgenx_jax._types import AxisName, LeafPredicate


def exchange(
    axis_name: AxisName,
    quantizer: Quantizer | Mapping[str, Quantizer | None] | None,
    *,
    labels: Labels | None = None,
    collective: str | Link = "once",
    link: Link | None = None,
    second: Quantizer | Mapping[str, Quantizer | None] | None = None,
    exact: LeafPredicate | None = no_leaves,
    rounding: str = "correlated",
    checksum: bool = False,
    key: _random.KeyOrSeed = 0,
    specs: Any = None,
) -> Exchange:
    """The exchange of dual vectors between workers, under a mapped axis.

    Worker k contributes V_k and all receive (1/K) sum_k Q(V_k), with E Q(v) = v. The
    mean's quantization variance falls as 1/K, or, of like vectors, as 1/K^2.

    Its derivative is that of the exact mean, (1/K) sum_k dV_k, which it is expected to
    be: `jax.grad` and `jax.jvp` go straight through the rounding (Bengio et al., 2013).
    What rides along (`scalar=`) is a constant to them.

    Args:
        axis_name: the axis over workers, bound by jax.shard_map, jax.pmap or jax.vmap;
            None for one worker without a collective, which quantizes all the same, so
            that a script runs, and can be debugged, on one device.
        quantizer: what each vector is rounded to; None exchanges exactly. With labels,
            one for each group of leaves: a mapping from label to quantizer or None.
        labels: with such a mapping, the leaves' labels, as in optax.partition: a tree
            of strings, a prefix of the vectors' tree, or a function from it to that.
        collective: with what the mean is made, and what a worker sends of a payload:
            "all_gather": one all-gather of one uint8 buffer, of which each worker
            decodes all K; K - 1 payloads;
            "reduce_scatter": an all-to-all of the chunks of that buffer, of which each
            worker averages its own, and an all-gather of the means, which are encoded
            again with independent bits; 2 (K - 1) / K payloads, and a second variance,
            that of the mean's own quantization, which does not fall with K;
            "hierarchical": on a tuple of axes, exact reduce-scatter over the last one,
            of N workers, then the faster of the two above, by `link`, on 1/N of the
            vector, then exact all-gather; its own vectors are None;
            "exact": an all-reduce in the leaves' precision or float32, only with
            quantizer=None;
            "auto": the faster of "all_gather" and "reduce_scatter" by `link`; as a rule
            one phase up to K = 2, for small vectors and with slow encoders, two phases
            for large ones; "exact" without a quantizer; the default of
            `quantized_mean`;
            a `Link`: "auto" with that link;
            "once": one quantization of each vector, as in algorithm 1, so that the mean
            is that of the own vectors, and its variance falls as 1/K: "exact" without a
            quantizer, "all_gather" with one.
        link: with "auto" and "hierarchical", the model of what connects the workers;
            None for `Link()`, 10 Gbit/s.
        second: what means are rounded to in the second phase of "reduce_scatter", and
            nothing where one phase is chosen; None for the same. With labels, a
            mapping; labels left out keep theirs.
        exact: leaves that travel as their own bytes, chosen by
            `exact(path, shape_and_dtype)`, for instance `qgenx_jax.small_leaves`, the
            default of `quantized_mean`; `no_leaves` and None quantize all.
        rounding: "correlated": workers share the random bits of a coordinate and take
            them from strata of their own, so that where some round up others round
            down. Each Q(V_k) has the law that it has alone, and the mean less variance,
            whatever the vectors: by up to 2 for unlike ones, by K for equal ones. Of
            `dithered` ones workers' bits are turned by multiples of 2^16 / K, and the
            variance of the mean of unlike vectors is as much, on average.
            "independent": the variance of the mean is (1/K^2) sum_k var(V_k).
        checksum: whether 4 bytes go with each message, of all its bits, and 4 more
            say at the end whether all have fitted, in a small all-gather. Where on any
            worker anything has not, mean and `scalar` are NaN on all; the mean has the
            same bits otherwise. 8 (K - 1) bytes, by "reduce_scatter" 12 (K - 1).
        key: PRNG key or seed of the rounding; the same on all workers. Exchanges of
            trees of other paths or shapes round differently also where keys are equal.
            A typed key of any generator will do; states hold its words.
        specs: where `NamedSharding`s cut leaves over mesh axes that are left to jit
            (`axis_names` of jax.shard_map names only the workers'), their
            PartitionSpecs, a tree like the vectors' or a prefix, or a function from the
            vectors' tree to that: each shard is then quantized where it lies. Without
            them the leaves are put together on every device, in full precision.

    Returns:
        An `Exchange` with `init()`, `send(tree, state, scalar=)`, `mean(tree, state)`,
        `quantize(tree, state)` and `traffic(tree, workers)`.

    Raises:
        ValueError: for an unknown collective, an axis that can be none, a key that is
            none, a quantizer given to the exact collective, or a checksum where sums
            are made on the way ("exact", "hierarchical", or no quantizer).

    Example:
        >>> import jax, jax.numpy as jnp, qgenx_jax as qgenx
        >>> exchange = qgenx.exchange("data", qgenx.uniform(bits=8))
        >>> def worker(vector):
        ...     (mean, own, _), state = exchange.send(vector, exchange.init())
        ...     return mean
        >>> vectors = jnp.array([[127.0, -3.0], [127.0, 5.0]])  # on levels: exact
        >>> jax.vmap(worker, axis_name="data", out_axes=None)(vectors)
        Array([127.,   1.], dtype=float32)

    References:
        Ramezani-Kebrya et al., Distributed Extra-gradient with Optimal Complexity and
        Communication Guarantees, ICLR 2023, algorithm 1; Suresh et al., Correlated
        Quantization for Distributed Mean Estimation and Optimization, ICML 2022.
    """
    if isinstance(axis_name, Exchange):
        rule, way_out = "must be the name of an axis", "use the exchange as it is"
        raise _checks.refuse("axis_name", rule, axis_name, way_out)
    if axis_name is not None:
        _checks.axis_name(axis_name)
    if isinstance(collective, Link):
        if link is not None:
            rule, way_out = "must be left out with collective=Link(...)", "give one"
            raise _checks.refuse("link", rule, link, way_out)
        collective, link = "auto", collective
    quantizers = groups.quantizers_of(quantizer, labels)
    own_second = groups.second_of(second, quantizers)
    choice.check(collective, link, axis_name, quantizers, second, checksum)
    if exact is not None:
        what = "of a leaf's path and shape, or None"
        _checks.function("exact", exact, what, "for instance qgenx_jax.small_leaves")
    _random.canonical_key(key)
    made = Exchange(
        axis_name,
        quantizers,
        labels,
        str(collective),
        DEFAULT if link is None else link,
        own_second,
        exact,
        _checks.one_of("rounding", rounding, ROUNDINGS),
        key,
        _random.generator_of(key),
        checksum,
    )
    return made if specs is None else sharded(made, specs)


class _NotGiven:
    """The quantizer where it is left out: None is one, that of an exact exchange."""

    def __repr__(self) -> str:
        return "that of the exchange"


NOT_GIVEN: Any = _NotGiven()


def ready_or_new(
    axis_name: AxisName | Exchange, quantizer: Any, function: Any, **settings: Any
) -> Exchange:
    """The exchange that a method is given, or makes of its own arguments.

    Args:
        axis_name: a ready exchange, or what `exchange` takes.
        quantizer: as in `exchange`; `NOT_GIVEN` with a ready one.
        function: whose arguments these are; with a ready exchange they have to be
            that function's defaults, since nothing would read them.
        **settings: as in `exchange`.

    Raises:
        ValueError: as `exchange` does, and for what nothing would read.
    """
    if not isinstance(axis_name, Exchange):
        if quantizer is NOT_GIVEN:
            raise _checks.refuse(
                "quantizer",
                "must be given with the name of an axis",
                _checks.Text("none"),
                "pass for instance uniform(bits=4), or None for an exact exchange",
            )
        return exchange(axis_name, quantizer, **settings)
    defaults = inspect.signature(function).parameters
    for name, value in {"quantizer": quantizer, **settings}.items():
        default = defaults[name].default
        is_plain = isinstance(value, str | int) and type(value) is type(default)
        if value is not default and not (is_plain and value == default):
            raise _checks.refuse(
                name,
                "must be left out with an exchange that is ready",
                value,
                "give it to qgenx_jax.exchange",
            )
    return axis_name
