"""What an update reads: its jaxpr as one list of operations, with what is known.

Inner jaxprs are written out, the branches of a cond, too, so that a cond and a select
by one scalar are the same operation, a choice. Loops stay one operation each.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from qgenx_jax._workers import known_numbers as numbers


class Value(NamedTuple):
    """What is known of a value.

    Attributes:
        reads: bit i is set if it may depend on input i; bit -1 - i is not used.
        known: the number that all its entries are, None where that is not known.
        same_as: the input that it is, entry by entry, or None.
    """

    reads: int
    known: Any = None
    same_as: int | None = None


class Operation(NamedTuple):
    """One equation: `name` is "choose" for a cond or a select, else the primitive's.

    `stack` is its name stack below those of all that it was inside of.
    """

    name: str
    ins: tuple[int, ...]
    outs: tuple[int, ...]
    equation: Any
    stack: str


_INLINED = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}
PASSED_ON = {
    "broadcast_in_dim",
    "convert_element_type",
    "copy",
    "copy_p",
    "pcast",
    "pvary",
    "reshape",
    "squeeze",
}
"""Operations that hand their operand on, in another shape or dtype at most."""


class Program:
    """A traced function: values have numbers, the inputs those from 0 on.

    Args:
        closed: the jaxpr.
        stack: the name stack of what it is the body of.
        finite: whether all numbers count as finite, so that a product with 0 is 0.
    """

    def __init__(self, closed: ClosedJaxpr, stack: str = "", *, finite: bool = True):
        self.finite = finite
        self.operations: list[Operation] = []
        self.avals: list[Any] = []
        self.constants: dict[int, Any] = {}
        self.traced_constants: list[int] = []
        jaxpr = closed.jaxpr
        self.inputs = [self._new(v.aval) for v in jaxpr.invars]
        self.outputs = self._inline(jaxpr, closed.consts, self.inputs, stack)
        self.values: list[Value] = [Value(0)] * len(self.avals)
        for i in self.inputs:
            self.values[i] = Value(1 << i, None, i)
        for i in self.traced_constants:
            # closed over, and traced outside: as good as an input of its own
            self.values[i] = Value(1 << len(self.inputs))
        for i, constant in self.constants.items():
            self.values[i] = Value(0, numbers.number(constant))
        self.maker: dict[int, Operation] = {}
        self.readers: dict[int, list[int]] = {}
        for index, operation in enumerate(self.operations):
            for i, value in zip(
                operation.outs, self._apply(operation, self.values), strict=True
            ):
                self.values[i] = value
                self.maker[i] = operation
            for i in set(operation.ins):
                self.readers.setdefault(i, []).append(index)

    def _new(self, aval: Any) -> int:
        self.avals.append(aval)
        return len(self.avals) - 1

    def _constant(self, value: Any, aval: Any) -> int:
        new = self._new(aval)
        if isinstance(value, Tracer):
            self.traced_constants.append(new)
        else:
            self.constants[new] = value
        return new

    def _inline(
        self, jaxpr: Jaxpr, consts: Any, arguments: Sequence[int], stack: str
    ) -> list[int]:
        named = dict(zip(jaxpr.invars, arguments, strict=True))
        for var, const in zip(jaxpr.constvars, consts, strict=True):
            named[var] = self._constant(const, var.aval)

        def read(atom: Any) -> int:
            if isinstance(atom, Literal):
                return self._constant(atom.val, atom.aval)
            return named[atom]

        for equation in jaxpr.eqns:
            ins = [read(atom) for atom in equation.invars]
            name = equation.primitive.name
            within = f"{stack}/{equation.source_info.name_stack}"
            inner = equation.params.get(_INLINED.get(name, ""))
            if inner is not None:
                outs = self._inline(*_opened(inner), ins, within)
            elif name == "cond":
                branches = [
                    self._inline(*_opened(branch), ins[1:], within)
                    for branch in equation.params["branches"]
                ]
                outs = [self._new(v.aval) for v in equation.outvars]
                for out, *cases in zip(outs, *branches, strict=True):
                    self.operations.append(
                        Operation("choose", (ins[0], *cases), (out,), None, within)
                    )
            else:
                outs = [self._new(v.aval) for v in equation.outvars]
                name = "choose" if name == "select_n" else name
                self.operations.append(
                    Operation(name, tuple(ins), tuple(outs), equation, within)
                )
            named.update(zip(equation.outvars, outs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _apply(self, operation: Operation, values: Any) -> list[Value]:
        """What is known of the results, from what is known of the operands."""
        ins = [values[i] for i in operation.ins]
        reads = 0
        for value in ins:
            reads |= value.reads
        found = self._one(operation, ins, reads)
        return [found] * len(operation.outs)

    def _one(self, operation: Operation, ins: list[Value], reads: int) -> Value:
        name = operation.name
        known = [value.known for value in ins]
        if name == "choose":
            which, *cases = ins
            if which.known is not None:
                return cases[min(max(int(which.known), 0), len(cases) - 1)]
            first = cases[0]
            same_known = all(
                c.known is not None and c.known == first.known for c in cases
            )
            if same_known:
                return Value(0, first.known)
            same = all(c.same_as == first.same_as for c in cases)
            return Value(reads, None, first.same_as if same else None)
        if name in PASSED_ON:
            (value, *_) = ins
            if value.known is not None:
                return Value(
                    0, numbers.cast(value.known, self.avals[operation.outs[0]])
                )
            a, b = self.avals[operation.ins[0]], self.avals[operation.outs[0]]
            same = (a.shape, a.dtype) == (b.shape, b.dtype)
            return Value(reads, None, value.same_as if same else None)
        if all(k is not None for k in known) and name in numbers.ON_NUMBERS:
            return Value(0, numbers.computed(name, known, self.avals[operation.ins[0]]))
        if self._is_annihilated(name, known, self.avals[operation.outs[0]].dtype):
            return Value(0, 0)
        neutral = numbers.NEUTRAL.get(name)
        if neutral is not None:
            for mine, other in (ins, ins[::-1]):
                is_second = name != "sub" or mine is ins[1]
                if mine.known is not None and mine.known == neutral and is_second:
                    return other
        return Value(reads)

    def _is_annihilated(self, name: str, known: list, dtype: Any) -> bool:
        """Whether a known 0 makes the result 0, whatever the other operand is."""
        if not self.finite and jax.numpy.issubdtype(dtype, jax.numpy.inexact):
            return False  # 0 times NaN
        zeros = [k is not None and not k for k in known]
        return any(zeros) if name in ("mul", "and") else name == "div" and zeros[0]

    def forced(self, number: int, known: Any) -> dict[int, Value]:
        """The values that change where one value is a known number."""
        changed = {number: Value(0, known)}
        waiting = list(self.readers.get(number, ()))
        heapq.heapify(waiting)
        seen = set(waiting)
        look = _Over(self.values, changed)
        while waiting:
            operation = self.operations[heapq.heappop(waiting)]
            after = self._apply(operation, look)
            for i, value in zip(operation.outs, after, strict=True):
                if value == self.values[i]:
                    continue
                changed[i] = value
                for reader in self.readers.get(i, ()):
                    if reader not in seen:
                        seen.add(reader)
                        heapq.heappush(waiting, reader)
        return changed

    def evaluator(self, inputs: dict[int, Any]) -> Callable[[int], Any]:
        """A function that computes values, and nothing that they do not need."""
        done = {**self.constants, **inputs}

        def evaluate(number: int) -> Any:
            if number in done:
                return done[number]
            known, aval = self.values[number].known, self.avals[number]
            if known is not None:
                done[number] = jax.numpy.full(aval.shape, known, aval.dtype)
                return done[number]
            operation = self.maker[number]
            name, ins, outs, equation, _ = operation
            which = self.values[ins[0]].known if name == "choose" else None
            if which is not None:
                cases = ins[1:]
                results = [evaluate(cases[min(max(int(which), 0), len(cases) - 1)])]
            elif equation is None:
                index, *cases = (evaluate(i) for i in ins)
                index = jax.numpy.clip(index, 0, len(cases) - 1)
                results = [jax.lax.select_n(index, *cases)]
            else:
                results = equation.primitive.bind(
                    *(evaluate(i) for i in ins), **equation.params
                )
                if not equation.primitive.multiple_results:
                    results = [results]
            done.update(zip(outs, results, strict=True))
            return done[number]

        return evaluate


def bodies(equation: Any) -> Iterator[ClosedJaxpr]:
    """The jaxprs inside an equation: of a loop, a branch, a jitted function."""
    for one in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_body):
        if _is_body(one):
            yield ClosedJaxpr(*_opened(one))


def _is_body(value: Any) -> bool:
    return isinstance(value, ClosedJaxpr | Jaxpr)


class _Over:
    """Values, some of them replaced."""

    def __init__(self, values: list[Value], changed: dict[int, Value]):
        self.values, self.changed = values, changed

    def __getitem__(self, number: int) -> Value:
        return self.changed.get(number) or self.values[number]


def _opened(inner: Any) -> tuple[Jaxpr, Sequence[Any]]:
    return (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, ())
