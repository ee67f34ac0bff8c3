"""Arrays that stay in their .npy files, and whoever reads ahead, by threads or processes."""

from __future__ import annotations

import os
import pickle
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from ppl_gen.data import Dataset, StreamedSplit, load
from ppl_gen.data.checksums import of_labels, of_numbers
from ppl_gen.data.reader import Reader
from ppl_gen.ranks import Ranks, Shares

SHAPES = {"images": (60, 6, 5), "colour": (60, 3, 4, 4), "last": (60, 4, 4, 3), "rows": (60, 7)}


def write(folder: Path, x: np.ndarray, y: np.ndarray | None = None) -> Path:
    np.save(folder / "x.npy", x)
    if y is not None:
        np.save(folder / "y.npy", y)
    return folder


def drawn(shape: tuple[int, ...], kind: str) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 200, shape).astype(kind)


@pytest.mark.parametrize("kind", ["u1", "f4", ">f8", "i2", "?"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_streamed_arrays_are_those_in_memory(
    shape: tuple[int, ...], kind: str, tmp_path: Path
) -> None:
    write(tmp_path, drawn(shape, kind), np.arange(60) % 4)
    held = load(tmp_path, stream=False)
    streamed = load(tmp_path, stream=True)
    assert (streamed.shape, streamed.classes) == (held.shape, held.classes) == (held.shape, 4)
    assert streamed.stored == held.stored
    for part in ("train", "test"):
        one, other = getattr(held, part), getattr(streamed, part)
        batches = other.batches(4, shuffle=False)
        x, y = (torch.cat(column) for column in zip(*batches, strict=True))
        assert torch.equal(x, one.x)
        assert torch.equal(y, one.y)
        assert torch.equal(other.fixed(0, 5).x, one.x[:5])
        assert of_numbers(other) == of_numbers(one)
        assert of_labels(other) == of_labels(one)


def test_arrays_above_a_size_are_streamed_unless_it_is_said_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x_train.npy", drawn((30, 4), "u1"))
    np.save(tmp_path / "x_test.npy", drawn((10, 4), "u1"))
    monkeypatch.setattr("ppl_gen.memory.STREAMED", 160)
    assert not isinstance(load(tmp_path).train, StreamedSplit)
    monkeypatch.setattr("ppl_gen.memory.STREAMED", 159)
    found = load(tmp_path)
    assert isinstance(found.train, StreamedSplit)
    assert (len(found.train), len(found.test), found.classes) == (30, 10, None)
    assert not isinstance(load(tmp_path, stream=False).test, StreamedSplit)
    alone = load(tmp_path / "x_train.npy")
    assert not isinstance(alone.train, StreamedSplit)


def test_suffixes_change_streamed_arrays_as_those_in_memory(tmp_path: Path) -> None:
    write(tmp_path, drawn((40, 6, 6), "u1"))
    for suffix in (":inverted", ":rotated:coloured"):
        held = load(f"{tmp_path}{suffix}", image_size=4, stream=False)
        streamed = load(f"{tmp_path}{suffix}", image_size=4, stream=True)
        assert torch.equal(streamed.train.fixed().x, held.train.x)
        assert of_numbers(streamed.train) == of_numbers(held.train)


def test_data_are_held_out_of_streamed_arrays(tmp_path: Path) -> None:
    write(tmp_path, drawn((50, 6), "u1"), np.arange(50) % 2)
    held = load(tmp_path, stream=False).divided(0.2, seed=1)
    streamed = load(tmp_path, stream=True).divided(0.2, seed=1)
    assert torch.equal(streamed.validation.x, held.validation.x)
    assert torch.equal(streamed.validation.y, held.validation.y)
    assert of_numbers(streamed.train) == of_numbers(held.train)
    assert of_labels(streamed.train) == of_labels(held.train)


def test_a_copy_of_a_streamed_array_has_none_of_its_numbers(tmp_path: Path) -> None:
    source = load(write(tmp_path, drawn((500, 100), "u1")), stream=True).train.source
    packed = pickle.dumps(source)
    assert len(packed) < 500 * 100 / 4
    x, y = pickle.loads(packed)[7]
    assert torch.equal(x, source[7][0])
    assert int(y) == -1


@pytest.mark.parametrize("binarize", [None, "dynamic", "dequantize", "threshold"])
def test_batches_are_the_same_for_one_seed_and_any_number_of_threads(
    binarize: str | None, tmp_path: Path
) -> None:
    split = load(write(tmp_path, drawn((50, 6), "u1")), stream=True, binarize=binarize).train
    passes = []
    for workers in (0, 1, 3):
        some = StreamedSplit(
            split.source, binarize, labelled=False, workers=workers, by_threads=True
        )
        torch.manual_seed(0)
        batches = some.batches(8)
        passes.append(torch.cat([x for _ in range(2) for (x,) in batches]))
    assert torch.equal(passes[0], passes[1])
    assert torch.equal(passes[0], passes[2])
    assert len(passes[0]) == 90


def test_processes_that_share_a_batch_read_their_own_rows_alone(tmp_path: Path) -> None:
    x = drawn((30, 6), "u1")
    np.save(tmp_path / "x_train.npy", x)
    np.save(tmp_path / "x_test.npy", x)
    batches = load(tmp_path, stream=True).train.batches(8)
    order = [torch.tensor([3, 1, 4]), torch.tensor([29])]
    found = [batch for (batch,) in batches.of_rows(order)]
    assert [len(batch) for batch in found] == [3, 1]
    rows = x[[3, 1, 4, 29]].astype("f4") / np.float32(255)
    assert torch.equal(torch.cat(found), torch.from_numpy(rows))
    both = [Shares(batches, Ranks(k, 2), 0, 1, torch.device("cpu")) for k in range(2)]
    seen = torch.cat([batch for share in both for (batch,) in share])
    assert sorted(seen.tolist()) == sorted((x / np.float32(255)).astype("f4").tolist())


def test_a_pass_that_is_left_begins_anew(tmp_path: Path) -> None:
    batches = load(write(tmp_path, drawn((50, 6), "u1")), stream=True).train.batches(4, False)
    (first,) = next(iter(batches))
    again = [x for (x,) in batches]
    assert torch.equal(first, again[0])
    assert sum(map(len, again)) == 45


# Bad files.

BAD: dict[str, tuple[np.ndarray, str]] = {
    "nan": (np.full((20, 3), np.nan, "f4"), "NaN alone"),
    "some nan": (np.array([[0.0, np.nan]] * 20, "f4"), "20 of 40 that are NaN"),
    "infinite": (np.array([[0.0, np.inf]] * 20, "f4"), "infinite ones"),
    "fortran": (np.asfortranarray(drawn((20, 3), "u1")), "C order.*ascontiguousarray"),
    "objects": (drawn((20, 3), "O"), "Python objects"),
    "large counts": (drawn((20, 3), "i8") << 40, "counts up to 16,777,216"),
    "one axis": (drawn((20,), "u1"), r"numbers of shape \(N, \*shape\)"),
    "none": (drawn((0, 3), "u1"), "numbers of shape"),
    "one": (drawn((1, 3), "u1"), "at least 2 data"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("x", "said"), BAD.values(), ids=BAD)
def test_bad_arrays_are_refused_before_they_are_streamed(
    x: np.ndarray, said: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", x, allow_pickle=True)
    with pytest.raises(ValueError, match=f"expected .*{said}|{said}"):
        load(tmp_path / "x.npy", stream=True)


def test_arrays_of_other_labels_or_shapes_are_refused(tmp_path: Path) -> None:
    write(tmp_path, drawn((20, 3), "u1"), np.arange(19))
    with pytest.raises(ValueError, match="one label for each of 20 data"):
        load(tmp_path, stream=True)
    np.save(tmp_path / "y.npy", drawn((20, 3, 3), "u1"))
    with pytest.raises(ValueError, match=r"images y beside images x .* leave stream=True out"):
        load(tmp_path, stream=True)
    for name, shape in (("x_train", (20, 3)), ("x_test", (20, 4))):
        np.save(tmp_path / f"{name}.npy", drawn(shape, "u1"))
    with pytest.raises(ValueError, match="one shape of data"):
        load(tmp_path, stream=True)


def test_what_cannot_be_streamed_says_what_can(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=drawn((20, 3), "u1"))
    with pytest.raises(ValueError, match=r"expected .npy files .* packed; store x.npy and y.npy"):
        load(tmp_path / "a.npz", stream=True)
    np.save(tmp_path / "x.npy", np.array([[0.5, np.nan]] * 20, "f4"))
    with pytest.raises(ValueError, match=r"without missing entries .*stream=False"):
        load(tmp_path / "x.npy", stream=True, missing=True)
    np.save(tmp_path / "x.npy", drawn((20, 3), "f4"))
    with pytest.raises(ValueError, match=r"values in \[0, 1\] to binarise"):
        load(tmp_path / "x.npy", stream=True, binarize="dynamic")


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    write(tmp_path, drawn((20, 300), "u1"))
    file = tmp_path / "x.npy"
    os.truncate(file, file.stat().st_size - 1)
    with pytest.raises(ValueError, match="cut off, or damaged"):
        load(tmp_path, stream=True)


@pytest.mark.parametrize("change", ["shorter", "other numbers", "gone"])
def test_a_file_that_changes_while_it_is_read_is_noticed(change: str, tmp_path: Path) -> None:
    write(tmp_path, drawn((50, 300), "u1"))
    file = tmp_path / "x.npy"
    batches = iter(load(tmp_path, stream=True).train.batches(2))
    next(batches)
    if change == "shorter":
        os.truncate(file, 200)
    elif change == "gone":
        file.unlink()
    else:
        seen = file.stat()
        os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns + 1))
    with pytest.raises(ValueError, match=r"expected .*x\.npy as it was.*begin anew"):
        list(batches)


# Processes that read.


class Noisy(TorchDataset[Any]):
    """Data that are drawn when they are read, and say by which process."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        noise = [random.random(), float(np.random.rand()), float(torch.rand(()))]
        return torch.tensor([float(index), *noise]), os.getpid()


class Mortal(Noisy):
    """Data at one of which the process that reads them is killed."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index == 9:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def test_processes_stay_from_pass_to_pass_and_draw_alike_in_any_number() -> None:
    passes = []
    for workers in (1, 2):
        batches = StreamedSplit(Noisy(), workers=workers).batches(3)
        torch.manual_seed(0)
        seen = []
        by = set()
        for _ in range(2):
            for x, y in batches:
                seen.append(x)
                by |= set(y.tolist())
        assert len(by) == workers
        assert os.getpid() not in by
        passes.append(torch.cat(seen))
    assert torch.equal(passes[0], passes[1])
    assert len(passes[0].unique(dim=0)) == 24


def test_passes_may_overlap() -> None:
    batches = StreamedSplit(Noisy(), workers=1).batches(3, shuffle=False)
    for (one, _), (other, _) in zip(batches, batches, strict=True):
        assert torch.equal(one[:, 0], other[:, 0])


def test_a_process_that_is_killed_is_said_with_a_remedy() -> None:
    batches = StreamedSplit(Mortal(), workers=1).batches(3, shuffle=False)
    with pytest.raises(ChildProcessError, match=r"reads data .* has ended.*workers=1.*--resume"):
        list(batches)
    reader = Reader(Noisy(), 1, False, "cpu")
    assert len(list(reader([[0], [1]], seed=0))) == 2


@pytest.mark.cuda
@pytest.mark.parametrize("by_threads", [True, False])
def test_streams_end_on_a_device(by_threads: bool, tmp_path: Path) -> None:
    split = load(write(tmp_path, drawn((50, 6), "u1"), np.arange(50) % 2), stream=True).train
    passes = []
    for device in ("cpu", "cuda"):
        there = StreamedSplit(split.source, device=device, by_threads=by_threads)
        torch.manual_seed(0)
        batches = [batch for _ in range(2) for batch in there.batches(8)]
        assert {t.device.type for batch in batches for t in batch} == {device}
        passes.append([torch.cat([x.cpu(), y.cpu()[:, None]], 1) for x, y in batches])
    assert torch.equal(torch.cat(passes[0]), torch.cat(passes[1]))


def test_loaded_streams_are_data_sets(tmp_path: Path) -> None:
    found = load(write(tmp_path, drawn((20, 4), "f4") / 200), stream=True)
    assert isinstance(found, Dataset)
    assert found.train.extremes[1] <= 1
