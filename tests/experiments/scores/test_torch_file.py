"""Files of PyTorch: written here byte by byte, and damaged."""

import collections
import os
import pickle
import struct

import numpy as np
import pytest

from experiments.scores.torch_file import read_arrays

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class _Named:
    """Pickles as the name of something in another module; see `_Writer.save`."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class _Tensor:
    def __init__(self, array, key, *, storage="FloatStorage", offset=0, size=None):
        self.array, self.key, self.storage = array, key, storage
        self.offset, self.size = offset, array.size if size is None else size


class _Writer(pickle._Pickler):
    """Writes names without importing them, and storages as persistent ones."""

    def persistent_id(self, obj):
        if isinstance(obj, tuple) and obj[:1] == ("storage",):
            return obj
        return None

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, _Named):
            self.write(f"c{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, _Tensor):
            self.save(_Named("torch._utils", "_rebuild_tensor_v2"))
            kind = _Named("torch", obj.storage)
            strides = tuple(s // obj.array.itemsize for s in obj.array.strides)
            storage = ("storage", kind, obj.key, "cpu", obj.size, None)
            hooks = collections.OrderedDict()
            self.save((storage, obj.offset, obj.array.shape, strides, False, hooks))
            self.write(pickle.REDUCE)
        else:
            super().save(obj, save_persistent_id)


def write(path, tensors, *, magic=MAGIC, cut=0, extra=None):
    """A file as PyTorch 1.5 writes it."""
    with path.open("wb") as file:
        facts = {"protocol_version": PROTOCOL, "little_endian": True}
        for value in (magic, PROTOCOL, facts):
            pickle.dump(value, file, protocol=2)
        _Writer(file, protocol=2).dump(extra if extra is not None else tensors)
        storages = {t.key: t.array for t in tensors.values()}
        pickle.dump(sorted(storages), file, protocol=2)
        for key in sorted(storages):
            data = storages[key]
            file.write(struct.pack("<q", data.size) + data.tobytes())
    if cut:
        with path.open("rb+") as file:
            file.truncate(os.path.getsize(path) - cut)
    return path


def test_arrays_come_back_with_names_shapes_and_dtypes(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "conv.weight": rng.standard_normal((4, 3, 2, 2)).astype(np.float32),
        "norm.mean": rng.standard_normal(5).astype(np.float32),
        "norm.count": np.array(7, np.int64),
    }
    kinds = {"norm.count": "LongStorage"}
    tensors = {
        name: _Tensor(a, str(i), storage=kinds.get(name, "FloatStorage"))
        for i, (name, a) in enumerate(arrays.items())
    }
    found = read_arrays(write(tmp_path / "a.pth", tensors))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"magic": 5}, "magic number is 5"),
        ({"cut": 3}, "cut off"),
        ({"extra": _Named("os", "system")}, "names os.system"),
        ({"extra": _Named("builtins", "eval")}, "names builtins.eval"),
        ({"extra": 3}, "holds a int"),
    ],
)
def test_what_is_no_file_of_arrays_is_refused(tmp_path, settings, message):
    tensors = {"a": _Tensor(np.ones(3, np.float32), "0")}
    path = write(tmp_path / "bad.pth", tensors, **settings)
    with pytest.raises(ValueError, match=message) as raised:
        read_arrays(path)
    assert "install the package" in str(raised.value)


@pytest.mark.parametrize("settings", [{"offset": 2}, {"size": 2}, {"size": -1}])
def test_tensors_outside_their_storage_are_refused(tmp_path, settings):
    tensors = {"a": _Tensor(np.ones(3, np.float32), "0", **settings)}
    with pytest.raises(ValueError, match=r"outside its storage|elements"):
        read_arrays(write(tmp_path / "bad.pth", tensors))
