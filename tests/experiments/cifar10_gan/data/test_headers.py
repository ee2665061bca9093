"""Files that promise more than they hold, or are no files: refused at once, by name."""

import io
import os
import struct
import zipfile
import zlib

import numpy as np
import pytest

from experiments.cifar10_gan.data.folders import read_picture
from experiments.cifar10_gan.data.headers import check_arrays
from experiments.cifar10_gan.data.sources import load_pictures

pytestmark = pytest.mark.quick


def npy(shape, data=b"\0" * 3072):
    """An array file of a shape, with so few bytes."""
    file = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + data


def png(width, height):
    """A picture of one colour, in a few kilobytes."""

    def chunk(kind, data):
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * (1 + width // 8) * min(height, 64))
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("name", ["lies.npy", "lies.npz"])
def test_an_array_that_is_smaller_than_its_header_says(tmp_path, name):
    path, lie = tmp_path / name, npy((10**12, 32, 32, 3))
    path.write_bytes(lie)
    if name.endswith("z"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("train.npy", lie)
    with pytest.raises(ValueError, match=rf"{name}' must be a whole array file.* says"):
        load_pictures(str(path))


def test_arrays_that_are_what_they_say(tmp_path):
    pictures = np.zeros((5, 32, 32, 3), np.uint8)
    np.save(tmp_path / "one.npy", pictures)
    np.savez(tmp_path / "two.npz", train=pictures, test=pictures)
    np.savez_compressed(tmp_path / "three.npz", train=pictures, test=pictures)
    for path in sorted(tmp_path.iterdir()):
        check_arrays(path)
        assert len(load_pictures(str(path))) >= 4


def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path):
    path = tmp_path / "1.png"
    path.write_bytes(png(9_000, 9_000))
    with pytest.raises(ValueError, match=r"1.png' must be .* 9000 x 9000 pixels"):
        read_picture(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("name", ["1.png", "1.npy"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    read = read_picture if name == "1.png" else lambda path: load_pictures(str(path))
    with pytest.raises(ValueError, match=name):
        read(tmp_path / name)
