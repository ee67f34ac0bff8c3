"""IDX files as MNIST is published, and MATLAB's .mat files."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

from ppl_gen.data import load

TYPES = {"u1": 8, "i1": 9, ">i2": 11, ">i4": 12, ">f4": 13, ">f8": 14}


def idx(array: np.ndarray, kind: str = "u1") -> bytes:
    """The bytes of an IDX file."""
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, TYPES[kind], array.ndim, *array.shape)
    return head + array.astype(kind).tobytes()


def images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (n, 5, 4))


def write(folder: Path, *, sets: str = "", packed: bool = False, dot: str = "-") -> Path:
    """Twelve images to train on and five to test on, with labels of three classes."""
    folder.mkdir(exist_ok=True)
    for part, n in (("train", 12), ("t10k", 5)):
        held = {"images": idx(images(n, n)), "labels": idx(np.arange(n) % 3)}
        for kind, axes in (("images", 3), ("labels", 1)):
            name = f"{sets}{part}-{kind}{dot}idx{axes}-ubyte"
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(held[kind]))
            else:
                (folder / name).write_bytes(held[kind])
    return folder


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dot", ["-", "."])
@pytest.mark.parametrize("named", [False, True])
def test_the_four_files_are_read_by_their_folder_or_the_images(
    packed: bool, dot: str, named: bool, tmp_path: Path
) -> None:
    place = write(tmp_path / "raw", packed=packed, dot=dot)
    if named:
        place = place / f"train-images{dot}idx3-ubyte{'.gz' * packed}"
    found = load(place)
    for split, n in ((found.train, 12), (found.test, 5)):
        expected = torch.as_tensor(images(n, n) / 255, dtype=torch.float32)
        torch.testing.assert_close(split.x[:, 0], expected)
        assert split.y.tolist() == [i % 3 for i in range(n)]
    assert (found.classes, found.shape) == (3, (1, 5, 4))
    assert "divided by 255" in found.stored


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_is_read_as_torchvision_reads_it(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "some-images-idx3"
    path.write_bytes(idx(images(20) % 100, kind))
    found = load(path)
    read = torch.cat([found.train.x, found.test.x])[:, 0] * (255 if kind == "u1" else 1)
    other = read_sn3_pascalvincent_tensor(str(path), strict=False).float()
    assert sorted(read.round().flatten().tolist()) == sorted(other.flatten().tolist())


def test_the_test_images_alone_are_split(tmp_path: Path) -> None:
    found = load(write(tmp_path / "raw") / "t10k-images-idx3-ubyte")
    assert (len(found.train), len(found.test), found.classes) == (4, 1, 3)


def test_emnist_is_set_upright_and_sets_are_told_apart(tmp_path: Path) -> None:
    folder = write(write(tmp_path / "raw", sets="emnist-letters-"), sets="emnist-digits-")
    with pytest.raises(ValueError, match="those of emnist-digits, emnist-letters; name a file"):
        load(folder)
    found = load(folder / "emnist-letters-train-images-idx3-ubyte")
    expected = torch.as_tensor(images(12, 12).swapaxes(1, 2) / 255, dtype=torch.float32)
    torch.testing.assert_close(found.train.x[:, 0], expected)
    assert len(found.test) == 5


def test_an_unpacked_file_goes_before_its_packed_one(tmp_path: Path) -> None:
    folder = write(tmp_path / "raw")
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"not read")
    assert len(load(folder).train) == 12


WHOLE = idx(images(6))
DAMAGED = {
    "cut off": (WHOLE[:-3], r"expected 120 bytes of an array of shape \(6, 5, 4\), got 117 bytes"),
    "too long": (WHOLE + b"1", "got more: it is damaged"),
    "no header": (b"PK\3\4" + WHOLE, r"header of an IDX file, got the bytes '50 4b 03 04'"),
    "half a header": (WHOLE[:7], "the length of each axis, got an end"),
    "empty": (b"", "header of an IDX file"),
    "too large": (WHOLE[:4] + b"\xff" * 12, "array of shape"),
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_files_are_refused(name: str, packed: bool, tmp_path: Path) -> None:
    content, said = DAMAGED[name]
    path = tmp_path / f"train-images-idx3-ubyte{'.gz' * packed}"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(ValueError, match=said):
        load(path)


def test_other_refusals(tmp_path: Path) -> None:
    folder = write(tmp_path / "raw")
    with pytest.raises(ValueError, match="expected a file of images, got one of labels"):
        load(folder / "train-labels-idx1-ubyte")
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(WHOLE)[:-9])
    with pytest.raises(ValueError, match=r"cannot read .*; fetch it anew"):
        load(tmp_path)
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.arange(3)))
    with pytest.raises(ValueError, match="expected 12 integer labels"):
        load(folder)
    for file in folder.glob("*images*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"expected images in .*, got t10k-labels.*put them"):
        load(folder)


def test_frey_faces_are_28_by_20(tmp_path: Path) -> None:
    faces = np.random.RandomState(0).randint(0, 256, (30, 28, 20)).astype(np.uint8)
    scipy.io.savemat(tmp_path / "frey_rawface.mat", {"ff": faces.reshape(30, -1).T})
    found = load(tmp_path / "frey_rawface.mat")
    assert (found.shape, len(found.train), found.classes) == ((1, 28, 20), 27, None)
    read = (torch.cat([found.train.x, found.test.x])[:, 0] * 255).round().to(torch.uint8)
    assert {face.numpy().tobytes() for face in read} == {face.tobytes() for face in faces}


def test_other_arrays_of_matlab_s_are_named_as_in_npz(tmp_path: Path) -> None:
    x = np.random.RandomState(0).rand(20, 3)
    path = tmp_path / "some.mat"
    scipy.io.savemat(path, {"x": x, "y": (np.arange(20) % 2)[:, None].astype(float), "z": x})
    found = load(path)
    assert (found.shape, found.classes, len(found.test)) == ((3,), 2, 2)
    x[0, 0] = np.nan
    scipy.io.savemat(path, {"x": x})
    with pytest.raises(ValueError, match="1 of 60 that are NaN"):
        load(path)
    assert load(path, missing=True).classes is None


def test_mat_files_that_are_no_data_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.mat"
    scipy.io.savemat(path, {"faces": np.zeros((3, 4))})
    with pytest.raises(ValueError, match=r"or Frey's faces ff in .*, got faces; rename one"):
        load(path)
    scipy.io.savemat(path, {"ff": np.zeros((4, 7))})
    with pytest.raises(ValueError, match="an array ff of 560 rows"):
        load(path)
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(ValueError, match="cannot read"):
        load(path)
    with pytest.raises(ValueError, match="cannot read"):
        load(tmp_path / "none.mat")
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(600))
    with pytest.raises(ValueError, match="save it by"):
        load(path)
