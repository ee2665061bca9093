"""Signatures with the names of types that the source has.

What is evaluated is long: `AxisName | Exchange` would be the union that it stands for.
The names are those of `qgenx_jax/_types.py`, which the API's first page explains.
"""

import ast
import inspect
import re
import textwrap
from typing import Any

MODULE = re.compile(r"\b(?!jax|jnp|optax|chex|np|sharding)[a-z_]\w*\.(?=[A-Z])")
"""Of the library: `step_sizes.StepSizeLike` is shown as `StepSizeLike`."""


def of_function(function: Any) -> tuple[str, str | None]:
    """Arguments as they are written, without self, and what is returned."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    (definition,) = tree.body
    assert isinstance(definition, ast.FunctionDef)
    arguments = definition.args
    if arguments.args and arguments.args[0].arg in ("self", "cls"):
        del arguments.args[0]
    returns = definition.returns
    shown = MODULE.sub("", ast.unparse(arguments)).replace("NOT_GIVEN", "...")
    return f"({shown})", returns and MODULE.sub("", ast.unparse(returns))


def of_class(kind: Any) -> str:
    """The fields of a named tuple or of a dataclass; of other classes nothing."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    (definition,) = tree.body
    assert isinstance(definition, ast.ClassDef)
    fields = [ast.unparse(x) for x in definition.body if isinstance(x, ast.AnnAssign)]
    is_record = issubclass(kind, tuple) or hasattr(kind, "__dataclass_fields__")
    shown = [field for field in fields if not field.startswith("_")]
    return f"({', '.join(shown)})" if is_record and shown else ""


def _process(
    app: Any,
    what: str,
    name: str,
    obj: Any,
    options: Any,
    signature: str | None,
    returns: str | None,
):
    if what in ("function", "method") and inspect.isfunction(inspect.unwrap(obj)):
        return of_function(obj)
    if what == "class":
        return of_class(obj), None
    return signature, returns


def _skip(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any):
    # fields of named tuples: their docstring's Attributes say what they are
    if type(obj).__name__ in ("_tuplegetter", "member_descriptor"):
        return True
    return None


def setup(app: Any) -> dict[str, bool]:
    """Connects both."""
    app.connect("autodoc-process-signature", _process)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True}
