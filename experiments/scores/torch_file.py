"""Arrays out of a file that PyTorch wrote, without PyTorch, and without running it.

A pickle can name any function to be called. This reader calls none but its own: the
three names that such a file of arrays needs are looked up in a table, and every other
is refused.
"""

import collections
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}
_LARGEST = 1 << 28  # elements of one storage: 1 GiB of float32


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a ``state_dict`` saved by PyTorch before 1.6, by name.

    Such a file is five pickles (a magic number, a version, facts of the machine, the
    arrays without their elements, the keys of storages), then each storage: its length,
    and its elements.

    Args:
        path: of the file, as ``torch.save(..., _use_new_zipfile_serialization=False)``
            writes it.

    Returns:
        Arrays in the order of the file, float32, float64, int64 or int32.

    Raises:
        ValueError: if it is not such a file, names anything that is no array, or ends
            too early.
    """
    with path.open("rb") as file:
        try:
            return _read(file)
        except (pickle.UnpicklingError, EOFError, TypeError, KeyError) as error:
            raise ValueError(
                f"path must be a file of arrays as PyTorch wrote them before 1.6, got "
                f"{str(path)!r} ({error}); install the package that it comes in anew"
            ) from error


def _read(file: BinaryIO) -> dict[str, np.ndarray]:
    for what, wanted in (("magic number", _MAGIC), ("protocol", _PROTOCOL)):
        value = _Unpickler(file, {}).load()
        if value != wanted:
            raise pickle.UnpicklingError(f"its {what} is {value!r}")
    _Unpickler(file, {}).load()  # sizes of types on the machine that wrote it
    storages: dict[str, np.ndarray] = {}
    arrays = _Unpickler(file, storages).load()
    if not isinstance(arrays, Mapping):
        raise pickle.UnpicklingError(f"it holds a {type(arrays).__name__}, no names")
    keys = _Unpickler(file, {}).load()
    for key in keys:
        storage = storages[key]
        length = int.from_bytes(file.read(8), "little")
        if length != storage.size:
            raise pickle.UnpicklingError(
                f"storage {key} has {length} elements for {storage.size}"
            )
        data = file.read(storage.nbytes)
        if len(data) != storage.nbytes:
            raise EOFError(f"storage {key} is cut off")
        storage[...] = np.frombuffer(data, storage.dtype)
    return {str(name): np.array(array) for name, array in arrays.items()}


class _Unpickler(pickle.Unpickler):
    """Knows ordered dictionaries, tensors and storages, and nothing else."""

    def __init__(self, file: BinaryIO, storages: dict[str, np.ndarray]) -> None:
        super().__init__(file)
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        """The only names that a file of arrays may use."""
        allowed: dict[tuple[str, str], Callable[..., Any] | str] = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _view,
            **{("torch", kind): kind for kind in _DTYPES},
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> np.ndarray:
        """The storage of a tensor, its elements still to be read."""
        _, kind, key, _, size, _ = pid
        if not 0 <= size <= _LARGEST:
            raise pickle.UnpicklingError(f"a storage has {size} elements")
        return self._storages.setdefault(key, np.zeros(size, _DTYPES[kind]))


def _view(
    storage: np.ndarray,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    *_: Any,
) -> np.ndarray:
    """A tensor: a view of its storage, checked to lie within it."""
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if min((*shape, 1)) < 1 or min((*strides, offset)) < 0 or last >= storage.size:
        raise pickle.UnpicklingError(f"a tensor of {shape} lies outside its storage")
    return np.lib.stride_tricks.as_strided(
        storage[offset:], shape, [s * storage.itemsize for s in strides]
    )
