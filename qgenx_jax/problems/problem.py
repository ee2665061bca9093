"""What every problem of this room offers: the protocol that methods are run on."""

from typing import Any, Protocol, runtime_checkable

from qgenx_jax._types import Array, AxisName, DualVector, Params
from qgenx_jax.problems.noise import Oracle


@runtime_checkable
class Problem(Protocol):
    """Find x* in C with <A(x*), x - x*> >= 0 for all x in C.

    Attributes:
        start: X_1, a feasible point; a pytree of floating-point arrays.
        solution: x* to the accuracy of float64, rounded to the default dtype; a pytree
            as `start`. None where there is none, or where there are several.
        projection: the Euclidean projection onto C, a function of a whole point; None
            where C is the whole space.
        lipschitz: L with ||A(x) - A(y)|| <= L ||x - y||; None where unknown.
        strong: mu with <A(x) - A(y), x - y> >= mu ||x - y||^2, 0.0 for an operator that
            is only monotone; None for one that is not monotone.
        cocoercive: beta with <A(x) - A(y), x - y> >= beta ||A(x) - A(y)||^2; None where
            there is no positive one, or it is unknown.

    Example:
        >>> import qgenx_jax as qgenx
        >>> isinstance(qgenx.problems.bilinear(4), qgenx.problems.Problem)
        True
    """

    @property
    def start(self) -> Params:
        """See the class."""
        ...

    @property
    def solution(self) -> Params | None:
        """See the class."""
        ...

    @property
    def projection(self) -> Any:
        """See the class."""
        ...

    @property
    def lipschitz(self) -> float | None:
        """See the class."""
        ...

    @property
    def strong(self) -> float | None:
        """See the class."""
        ...

    @property
    def cocoercive(self) -> float | None:
        """See the class."""
        ...

    def operator(self, x: Params, /) -> DualVector:
        """A(x), a pytree as `start`."""
        ...

    def oracle(
        self,
        noise: str = "none",
        size: float = 1.0,
        *,
        workers: int = 1,
        spread: float = 0.0,
        axis_name: AxisName = None,
    ) -> Oracle:
        """A stochastic dual vector g with E g = A(x), see `problems.noise`.

        Args:
            noise: "none", "absolute", "multiplicative", "coordinates" or "players".
            size: sigma for "absolute", c for "multiplicative".
            workers: K.
            spread: how far the workers' own operators are from A; their mean is A.
            axis_name: the mapped axis over workers, by which each knows its number.

        Returns:
            `oracle(x, key, worker=None) -> g`.
        """
        ...

    def gap(self, x: Params, radius: float = ...) -> Array:
        """A merit of x that is 0 at solutions and positive elsewhere, never below

            Gap(x) = sup { <A(y), x - y> : y in C, near x* where C is unbounded }

        Args:
            x: a feasible point.
            radius: what "near" means, where C is unbounded.

        Returns:
            Scalar; each problem says how it is computed.

        Raises:
            ValueError: if A is not monotone: 0 would not mean a solution.
        """
        ...
