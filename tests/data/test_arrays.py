"""Arrays of every type and suffix, headers that lie, files that are none, images without end."""

import os
import re
import socket
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ppl_gen
from ppl_gen import memory, models
from ppl_gen.data import Split, load
from ppl_gen.inference import log_evidence, mmd

COUNTS = np.arange(60).reshape(20, 3) % 7


def npy(shape: tuple[int, ...], kind: str, body: bytes = bytes(64)) -> bytes:
    """A .npy file of some bytes whose header says what it likes."""
    said = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode()
    said += b" " * (63 - (10 + len(said)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(said)) + said + body


@pytest.mark.parametrize(
    "kind", ["i1", "u2", ">u2", "u4", ">u4", "u8", ">i4", ">i8", "f2", ">f4", "f8", ">f8", "g"]
)
def test_whole_and_floating_point_numbers_of_every_type_are_read(kind: str, tmp_path) -> None:
    np.savez(tmp_path / "some.npz", x=COUNTS.astype(kind), y=COUNTS[:, :2].astype("g"))
    found = load(tmp_path / "some.npz")
    read = torch.cat([found.test.x, found.train.x])
    assert read.dtype == torch.float32
    assert sorted(read.tolist()) == sorted(COUNTS.astype(float).tolist())
    assert found.attributes == 2


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "u8", ">u2", ">i4", "i8"])
def test_labels_of_every_whole_type_are_read(kind: str, tmp_path) -> None:
    np.savez(tmp_path / "some.npz", x=COUNTS.astype("f4"), y=(COUNTS[:, 0] % 3).astype(kind))
    assert load(tmp_path / "some.npz").classes == 3


STRANGE = {
    "complex": (COUNTS.astype("c8"), "complex numbers"),
    "objects": (COUNTS.astype(object), "Python objects"),
    "records": (np.zeros(20, [("a", "f4"), ("b", "f4")]), "records"),
    "text": (COUNTS.astype(str), "text"),
    "dates": (COUNTS.astype("M8[s]"), r"datetime64\[s\]"),
    "too large": (COUNTS * 1e300, "numbers up to 3.4e.38"),
    "beyond single precision": (COUNTS.astype("u8") << 40, "counts up to 16,777,216"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("x", "said"), STRANGE.values(), ids=STRANGE)
def test_arrays_of_anything_else_are_refused(x: np.ndarray, said: str, tmp_path) -> None:
    np.save(tmp_path / "some.npy", x, allow_pickle=True)
    with pytest.raises(ValueError, match=f"expected .*{said}"):
        load(tmp_path / "some.npy")


LIES = {
    "terabytes": npy((10**12, 4), "<f4"),
    "beyond 64 bits": npy((10**20, 4), "<f4"),
    "negative": npy((-5, 4), "<f4"),
    "cut off": npy((100, 4), "<f4"),
    "no header": b"\x93NUMPY\x01\x00",
    "another format": b"\x93NUMPY\x09\x00" + bytes(64),
    "nothing": b"",
    "nested": npy((3,), "(" * 9000),
}


@pytest.mark.parametrize("held", LIES.values(), ids=LIES)
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".NPY", ".NPZ"])
def test_a_header_that_says_more_than_the_file_holds_is_refused(held, suffix, tmp_path) -> None:
    path = tmp_path / f"some{suffix}"
    if suffix.lower() == ".npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", held)
    else:
        path.write_bytes(held)
    with pytest.raises(ValueError, match="cannot read"):
        load(path)


def test_arrays_that_unpack_to_more_than_memory_are_not_begun(tmp_path, monkeypatch) -> None:
    """A packed file of some kB whose 16 MB take 148 MB with their copies in single precision."""
    x = np.zeros((2**18, 64), np.uint8)
    np.savez_compressed(tmp_path / "some.npz", x=x)
    monkeypatch.setattr(memory, "available", lambda device=None: 2**27)
    with pytest.raises(ValueError, match="to fit into memory, of which 134 MB are free, got 151"):
        load(tmp_path / "some.npz")


def test_other_arrays_of_a_file_are_left_alone(tmp_path) -> None:
    np.savez(tmp_path / "some.npz", x=COUNTS.astype("f4"), names=np.array(["a", None], object))
    assert load(tmp_path / "some.npz").shape == (3,)
    np.savez(tmp_path / "some.npz", names=np.array(["a", "b"]))
    with pytest.raises(ValueError, match=r"expected arrays x_train and x_test, or x.*got names"):
        load(tmp_path / "some.npz")


def test_an_array_that_ends_like_an_archive_is_an_array(tmp_path) -> None:
    end_of_an_archive = b"PK\x05\x06" + bytes(18)
    x = np.zeros((40, 22), np.uint8)
    x[-1] = np.frombuffer(end_of_an_archive, np.uint8)
    np.save(tmp_path / "x.npy", x)
    assert load(tmp_path / "x.npy").train.x.shape == (36, 22)


def test_suffixes_may_be_upper_case(tmp_path) -> None:
    np.save(tmp_path / "some.npy", COUNTS.astype("f4"))
    (tmp_path / "some.npy").rename(tmp_path / "SOME.NPY")
    assert load(tmp_path / "SOME.NPY").shape == (3,)
    for number, ending in enumerate(("PNG", "JPG", "Tif", "png")):
        Image.new("L", (8, 8)).save(tmp_path / f"{number}.{ending}")
    assert len(load(tmp_path).train) == 3


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "device"])
@pytest.mark.parametrize("name", ["some.npy", "images/1.png"])
def test_what_is_no_file_is_refused_and_does_not_hang(
    kind: str, name: str, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        socket.socket(socket.AF_UNIX).bind(str(path))
    said = "expected a regular file, got a"
    asked = path
    if path.suffix == ".png":
        asked = path.parent
    elif kind == "folder":
        said = "expected images"  # any folder may hold some
    with pytest.raises(ValueError, match=said):
        load(asked)


def test_files_of_users_are_opened_in_one_place_each() -> None:
    """Which looks at headers, kinds of files and sizes first."""
    # A cell of a sweep reads what it has itself written.
    doors = {r"\bImage\.open\(": ["files.py"], r"\bnp\.load\(": ["arrays.py", "cell.py"]}
    for file in Path(ppl_gen.__file__).parent.rglob("*.py"):
        for call, door in doors.items():
            assert file.name in door or not re.search(call, file.read_text()), file


def images(folder: Path, width: int, height: int, count: int = 4) -> Path:
    folder.mkdir()
    for number in range(count):
        Image.new("L", (width, height), 50 * number).save(folder / f"{number}.png")
    return folder


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("factor", [1.5, 3])
def test_images_of_more_pixels_than_pillows_limit_are_refused(factor, tmp_path, monkeypatch):
    """Above its limit Pillow warns, above twice of it raises; here both are one line."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(64 * 64 / factor))
    with pytest.raises(ValueError, match=r"at most 0 million pixels, got more in .*0.png; cut it"):
        load(images(tmp_path / "photos", 64, 64))


def test_images_of_a_size_beyond_memory_are_not_made(tmp_path) -> None:
    with pytest.raises(ValueError, match="an image of 100000000 × 100000000 pixels"):
        load(images(tmp_path / "photos", 8, 8), image_size=10**8)
    with pytest.raises(ValueError, match="images of 100000000 × 100000000 pixels"):
        load("digits", image_size=10**8)


def test_images_that_take_more_than_memory_are_not_held(tmp_path, monkeypatch) -> None:
    folder = images(tmp_path / "photos", 2000, 1000)
    monkeypatch.setattr(memory, "available", lambda device=None: 2**25)
    monkeypatch.setattr(memory, "_LITTLE", 2**20)
    with pytest.raises(ValueError, match=r"expected 3 data to fit .* got 48 MB; stream them"):
        load(folder, stream=False)
    assert len(load(folder, stream=True).train) == 3


def test_a_damaged_image_of_a_stream_is_named_and_no_traceback_is_said(tmp_path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    noise = np.random.RandomState(0).randint(0, 255, (8, 64, 64), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    train = load(folder, stream=True).train
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"^cannot read the image .*png: image file is truncated$"):
        list(train.batches(4))


@pytest.mark.parametrize(("width", "height"), [(1, 60_000), (60_000, 1), (3, 50), (50, 3)])
def test_the_central_square_of_a_long_image_is_all_that_is_resized(width, height, tmp_path) -> None:
    """A picture of 1 × 60000 pixels brought to 32 would else be one of 32 × 1920000 first."""
    ramp = np.arange(width * height, dtype=float).reshape(height, width)
    pixels = (255 * ramp / ramp.max()).astype(np.uint8)
    (tmp_path / "long").mkdir()
    for number in range(2):
        Image.fromarray(pixels).save(tmp_path / "long" / f"{number}.png")
    found = load(tmp_path / "long", image_size=32)
    assert found.shape == (1, 32, 32)
    middle = float(found.train.x.mean())
    assert abs(middle - 0.5) < 0.02


NOT_TENSORS = {
    "array": (np.ones((4, 3), "f4"), r"say torch.as_tensor\(\.\.\.\)"),
    "big-endian": (np.ones((4, 3), ">f4"), "entries are of >f4: say torch.as_tensor"),
    "long double": (np.ones((4, 3), "g"), "say torch.as_tensor"),
    "uint16": (np.ones((4, 3), "u2"), "entries are of uint16: say torch.as_tensor"),
    "objects": (np.ones((4, 3), object), "entries are of object: give numbers"),
    "complex": (torch.ones(4, 3, dtype=torch.complex64), "expected real .*, got torch.complex64"),
}
TAKEN = {
    "log_evidence": lambda x: log_evidence(models.vae((3,), 1, hidden=(2,)), None, x),
    "mmd": lambda x: mmd(x, x),
    "Split": lambda x: Split(x),
    "labels": lambda x: Split(torch.ones(4, 3), x),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("x", "said"), NOT_TENSORS.values(), ids=NOT_TENSORS)
@pytest.mark.parametrize("call", TAKEN.values(), ids=TAKEN)
def test_calls_say_how_an_array_becomes_a_tensor(call, x, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call(x)


@pytest.mark.parametrize("kind", [torch.uint16, torch.uint32, torch.uint64])
def test_types_that_torch_stores_only_are_converted_where_that_is_exact(kind: torch.dtype) -> None:
    whole = torch.tensor([[0, 1], [1, 1]]).to(kind)
    split = Split(whole, whole[:, 0], binarize="threshold")
    assert split.x.dtype == torch.int64
    assert split.y is not None
    assert split.y.tolist() == [0, 1]
    cvae = models.cvae((2,), 1, classes=2, hidden=(2,))
    assert cvae.guide(torch.zeros(2, 2), whole[:, 0]).shape == (2, 1)
    with pytest.raises(ValueError, match=f"torch computes with, got {kind}; say .float"):
        log_evidence(models.vae((2,), 1, hidden=(2,)), None, whole)
    with pytest.raises(ValueError, match="below 2⁶³"):
        Split(torch.tensor([[-1]]).to(torch.uint64))
