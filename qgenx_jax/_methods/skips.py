"""Transformations that may skip an update, which nothing inside a pair may do.

Half-steps of a pair go on with every call. A transformation inside that hands on zeros
at some calls (optax.MultiSteps), or at some vectors (optax.apply_if_finite), makes of
extra-gradient the plain gradient method, and says nothing. What a transformation does
is read off its traced update, not off its name: is there one truth value in it, with
which some leaf of the result does not depend on the vector, and without which it does?
Learning rates that are 0 for a while are numbers and no truth values, and a truth value
that only counts may change once, so schedules pass.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax._types import Array
from qgenx_jax._workers.programs import Program, Value

CALLS = 1024
"""Calls for which a truth value that only counts is looked at."""
TINY = 1e-5
"""A number that is compared with less guards a division by 0."""


def why_it_skips(
    init: Callable[..., Any], update: Callable[..., Any], *arguments: Any, **extra: Any
) -> str | None:
    """What a transformation does at some calls and not at others, None if nothing.

    Args:
        init: of the transformation.
        update: of the transformation, which takes extra arguments.
        *arguments: updates, state and params, or their shapes and dtypes.
        **extra: extra arguments.

    Raises:
        Exception: whatever tracing the update raises.
    """
    arrays, rest = {}, {}
    for name, value in extra.items():
        (arrays if isinstance(value, jax.Array) else rest)[name] = value

    def run(updates: Any, state: Any, params: Any, arrays: Any) -> Any:
        return update(updates, state, params, **arrays, **rest)

    traced, shape = jax.make_jaxpr(run, return_shape=True)(*arguments, arrays)
    vectors, states, _ = (len(jax.tree.leaves(tree)) for tree in arguments)
    moves = len(jax.tree.leaves(shape[0]))
    if len(jax.tree.leaves(shape[1])) != states:
        return None  # its state grows: which leaf is which is not known
    program = Program(traced)
    gates = _Gates(program, vectors, states, moves)
    for number, cases in gates.candidates().items():
        closed, passing = gates.effect(number, cases)
        if not closed and not passing:
            continue
        counters = gates.counters(number)
        if counters is None:
            if closed:
                return "holds back what does not pass a test"
            continue  # clipping passes on what is short enough
        seen = gates.simulate(number, counters, init, arguments[2])
        if seen is None or np.count_nonzero(seen[1:] != seen[:-1]) > 1:
            what = "hands on nothing of" if closed else "leaves as it is"
            return f"{what} the vector at some calls"
        if counters and seen[-1] == seen[0] and int(seen[0]) in closed:
            return f"hands on nothing of the vector in its first {CALLS} calls"
    return None


class _Gates:
    """Truth values in an update, and what they hold back."""

    def __init__(self, program: Program, vectors: int, states: int, moves: int):
        self.program = program
        self.vectors = (1 << vectors) - 1
        self.states = range(vectors, vectors + states)
        self.moves = program.outputs[:moves]
        self.after = dict(zip(self.states, program.outputs[moves:], strict=True))

    def candidates(self) -> dict[int, int]:
        """Numbers of one entry that choose and are not known, with how many cases."""
        program, found = self.program, {}
        guards = {
            number
            for operation in program.operations
            if self._guards_a_division(operation)
            for number in operation.outs
        }
        for number, aval in enumerate(program.avals):
            if aval.shape == () and aval.dtype == np.bool_ and number not in guards:
                found[number] = 2
        for name, ins, *_ in program.operations:
            if name == "choose" and len(ins) > 3 and program.avals[ins[0]].shape == ():
                found[ins[0]] = len(ins) - 1
        return {i: n for i, n in found.items() if program.values[i].known is None}

    def _guards_a_division(self, operation: Any) -> bool:
        """Whether it is that of a norm with 0, say, where the vector is 0 as well."""
        if operation.name not in ("eq", "ne", "lt", "le", "gt", "ge"):
            return False
        floats = all(
            jnp.issubdtype(self.program.avals[i].dtype, jnp.floating)
            for i in operation.ins
        )
        known = [self.program.values[i].known for i in operation.ins]
        return floats and any(k is not None and abs(k) <= TINY for k in known)

    def effect(self, number: int, cases: int) -> tuple[set[int], bool]:
        """Cases in which leaves are held back; whether leaves are passed on in some."""
        before = self.program.values
        found = [self.program.forced(number, case) for case in range(cases)]
        closed: set[int] = set()
        passing = False
        for leaf in self.moves:
            if self.program.avals[leaf].shape == ():
                continue  # a test of this leaf alone looks like one of all
            at: list[Value] = [case.get(leaf) or before[leaf] for case in found]
            still = {i for i, x in enumerate(at) if not x.reads & self.vectors}
            if 0 < len(still) < cases:
                closed |= still
            same = [x.same_as for x in at]
            passes = {s is not None and bool(1 << s & self.vectors) for s in same}
            passing = passing or len(passes) > 1
        return closed, passing

    def counters(self, number: int) -> list[int] | None:
        """The state that a value depends on; None where it also reads anything else."""
        reads = self.program.values[number].reads
        found: list[int] = []
        while True:
            new = [i for i in self.states if reads >> i & 1 and i not in found]
            mine = sum(1 << i for i in (*found, *new))
            if reads & ~mine:
                return None
            if not new:
                return found
            found += new
            for i in new:
                reads |= self.program.values[self.after[i]].reads

    def simulate(
        self, number: int, counters: list[int], init: Callable, params: Any
    ) -> np.ndarray | None:
        """The truth value at each of the first calls; None where it cannot be known."""
        program, first = self.program, self.states.start
        start = Program(jax.make_jaxpr(init)(params))
        numbers = [start.outputs[i - first] for i in counters]
        if any(start.values[i].reads for i in numbers):
            return None

        def call(values: list[Array], _: None) -> tuple[list[Array], Array]:
            evaluate = program.evaluator(dict(zip(counters, values, strict=True)))
            after = [
                jnp.asarray(evaluate(self.after[i]), x.dtype)
                for i, x in zip(counters, values, strict=True)
            ]
            return after, evaluate(number)

        with jax.ensure_compile_time_eval():
            evaluate = start.evaluator({})
            values = [jnp.asarray(evaluate(i)) for i in numbers]
            _, seen = jax.jit(lambda x: jax.lax.scan(call, x, length=CALLS))(values)
            return np.asarray(seen)
