"""Data sets, binarisation, files and folders."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor

from ppl_gen import data
from ppl_gen.data import Dataset, Split, StreamedSplit
from ppl_gen.data.sources import TORCHVISION
from ppl_gen.data.toys import MANIFOLDS


def test_digits_need_no_download() -> None:
    digits = data.load("digits")
    assert (len(digits.train), len(digits.test), digits.shape, digits.classes) == (
        1500,
        297,
        (1, 8, 8),
        10,
    )
    assert float(digits.train.x.max()) == 1
    assert digits.train.x.unique().tolist() == pytest.approx([k / 16 for k in range(17)])
    assert digits.train.y is not None
    assert digits.train.y.bincount().min() > 100


@pytest.mark.parametrize("name", MANIFOLDS)
def test_manifolds_are_low_dimensional_and_repeat(name: str) -> None:
    one, two = data.load(name), data.load(name)
    assert torch.equal(one.train.x, two.train.x)
    assert not torch.equal(one.train.x[:1000], one.test.x)
    assert one.shape == ((3,) if name == "swiss-roll" else (2,))
    residual = {
        "line": lambda x: x @ torch.tensor([-0.2, 0.98]),
        "circle": lambda x: x.norm(dim=-1) - 1,
        "curve": lambda x: (x[:, 1] - (x[:, 0].square() / 2 - 0.5)) / (1 + x[:, 0].square()).sqrt(),
        "swiss-roll": lambda x: x[:, ::2].norm(dim=-1) - _roll_radius(x),
    }[name](one.train.x)
    # What is left is the noise, of standard deviation 0.05: its estimate from 2000 draws has an
    # error of 0.05 / √4000.
    assert abs(float(residual.std()) - 0.05) < 4 * 0.05 / 4000**0.5


def _roll_radius(x: Tensor) -> Tensor:
    """The radius of the nearest turn of the spiral at a point's angle."""
    angle = torch.atan2(x[:, 2], x[:, 0]) % (2 * torch.pi)
    turns = (angle[:, None] + 2 * torch.pi * torch.arange(3)) / 7
    return turns.gather(
        1, (turns - x[:, ::2].norm(dim=-1, keepdim=True)).abs().argmin(1, keepdim=True)
    )[:, 0]


def test_data_are_shown_by_their_shapes() -> None:
    dataset = data.load("digits", binarize="dynamic")
    assert len(repr(dataset)) < 400
    assert "tensor(" not in repr(dataset)
    assert "Split(1500 data of shape (1, 8, 8), y (1500,), binarize 'dynamic')" in repr(dataset)


class TestBinarisation:
    grey = torch.tensor([0.0, 0.2, 0.5, 0.8, 1.0]).expand(4000, 5)

    def test_threshold_is_a_half(self) -> None:
        assert Split(self.grey, binarize="threshold").x[0].tolist() == [0, 0, 1, 1, 1]

    def test_static_is_one_draw_for_good(self) -> None:
        split = Split(self.grey, binarize="static")
        (first,), (second,) = (next(iter(split.batches(4000, shuffle=False))) for _ in range(2))
        assert torch.equal(first, second)
        assert torch.equal(first, Split(self.grey, binarize="static").x)
        self.has_the_mean_of_grey(first)

    def test_dynamic_is_a_new_draw_each_time(self) -> None:
        batches = Split(self.grey, binarize="dynamic").batches(4000, shuffle=False)
        (first,), (second,) = next(iter(batches)), next(iter(batches))
        assert not torch.equal(first, second)
        self.has_the_mean_of_grey(first)

    def has_the_mean_of_grey(self, x: Tensor) -> None:
        assert set(x.unique().tolist()) == {0, 1}
        error = (self.grey[0] * (1 - self.grey[0]) / 4000).sqrt()
        assert ((x.mean(0) - self.grey[0]).abs() <= 4 * error).all()

    def test_dequantised_levels_do_not_meet(self) -> None:
        x = torch.arange(17.0).expand(500, 17) / 16
        (noisy,) = next(iter(Split(x, None, "dequantize", 17).batches(500)))
        assert torch.equal((noisy * 17).floor(), x * 16)

    @pytest.mark.parametrize("binarize", [None, *data.BINARIZATIONS])
    def test_a_fixed_split_is_the_same_for_a_seed(self, binarize: str | None) -> None:
        split = Split(self.grey, None, binarize)
        one = split.fixed(3, 10)
        assert torch.equal(one.x, split.fixed(3, 10).x)
        assert one.binarize is None
        if binarize in ("dynamic", "dequantize"):
            assert not torch.equal(one.x, split.fixed(4, 10).x)

    def test_values_outside_the_unit_interval_are_refused(self) -> None:
        with pytest.raises(
            ValueError, match=r"expected values in \[0, 1\] to binarise or dequantise, got -2 to 3"
        ):
            Split(torch.tensor([[-2.0], [3.0]]), None, "dynamic")


class TestBatches:
    def test_every_datum_once_in_a_new_order_with_its_label(self) -> None:
        split = Split(torch.arange(10.0)[:, None], torch.arange(10))
        batches = split.batches(4)
        assert len(batches) == 3
        passes = [[torch.cat(column) for column in zip(*batches, strict=True)] for _ in range(2)]
        for x, y in passes:
            assert torch.equal(x[:, 0].long(), y)
            assert y.sort().values.tolist() == list(range(10))
        assert not torch.equal(passes[0][1], passes[1][1])

    def test_unlabelled_batches_are_single(self) -> None:
        assert [len(batch) for batch in Split(torch.ones(3, 2)).batches(2)] == [1, 1]

    @pytest.mark.parametrize("size", [0, 4])
    def test_bad_size(self, size: int) -> None:
        with pytest.raises(
            ValueError, match=f"batch size from 1 to the number of data, 3, got {size}"
        ):
            Split(torch.ones(3, 2)).batches(size)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty grey images of two classes."""
    for i in range(20):
        where = tmp_path / "images" / ("cat" if i % 2 else "dog")
        where.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 9), 12 * i, np.uint8)).save(where / f"{i}.png")
    return tmp_path / "images"


class TestFolders:
    def test_one_folder_per_class(self, folder: Path) -> None:
        loaded = data.load(folder)
        assert (loaded.shape, loaded.classes, len(loaded.train), len(loaded.test)) == (
            (1, 8, 9),
            2,
            18,
            2,
        )
        assert isinstance(loaded.train, Split)
        step = loaded.train.x[:, 0, 0, 0] * 255 / 12
        assert torch.equal(step.round().long() % 2, 1 - loaded.train.y)  # "cat" sorts before "dog"

    def test_a_folder_can_be_binarised_for_good(self, folder: Path) -> None:
        assert data.load(folder, binarize="static").train.x.unique().tolist() == [0, 1]
        with pytest.raises(ValueError, match="expected data in memory for static binarisation"):
            data.load(folder, binarize="static", stream=True)

    def test_streams_are_the_same_data(self, folder: Path) -> None:
        held, streamed = data.load(folder, stream=False), data.load(folder, stream=True)
        assert isinstance(streamed.train, StreamedSplit)
        x, y = (torch.cat(c) for c in zip(*streamed.train.batches(4, shuffle=False), strict=True))
        assert torch.equal(x, held.train.x)
        assert torch.equal(y, held.train.y)
        state = torch.get_rng_state()
        assert torch.equal(streamed.test.fixed().x, held.test.x)
        assert torch.equal(torch.get_rng_state(), state)
        assert sum(len(x) for x, _ in streamed.train.batches(4)) == 18

    def test_train_and_test_are_taken_as_they_are_and_colour_is_kept(self, tmp_path: Path) -> None:
        for part, count in (("train", 3), ("test", 2)):
            (tmp_path / part).mkdir()
            for i in range(count):
                Image.fromarray(np.full((8, 8, 3), 50 * i, np.uint8)).save(
                    tmp_path / part / f"{i}.png"
                )
        loaded = data.load(tmp_path)
        assert (loaded.shape, loaded.classes, len(loaded.train), len(loaded.test)) == (
            (3, 8, 8),
            None,
            3,
            2,
        )
        assert loaded.train.y is None

    def test_sizes_that_differ_are_named_with_the_remedy_and_the_remedy_works(
        self, folder: Path
    ) -> None:
        Image.fromarray(np.zeros((30, 20), np.uint8)).save(folder / "cat" / "odd.png")
        with pytest.raises(ValueError, match=r"got 9 × 8 .* and 20 × 30 \(odd.png\).*--image-size"):
            data.load(folder)
        assert data.load(folder, image_size=12).shape == (1, 12, 12)

    def test_an_unreadable_image_is_named(self, folder: Path) -> None:
        (folder / "cat" / "broken.png").write_bytes(b"not an image")
        with pytest.raises(ValueError, match=r"cannot read the image .*broken.png"):
            data.load(folder)

    def test_a_part_without_images(self, tmp_path: Path) -> None:
        for part in ("train", "test"):
            (tmp_path / part).mkdir()
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "train" / "a.png")
        with pytest.raises(ValueError, match=r"in both .*got one that is empty"):
            data.load(tmp_path)

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"expected images .*got none"):
            data.load(tmp_path)


class TestArrays:
    def test_bytes_become_unit_floats_with_a_channel(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.full((20, 8, 8), 255, np.uint8))
        loaded = data.load(tmp_path / "a.npy")
        assert (loaded.shape, len(loaded.train), len(loaded.test)) == ((1, 8, 8), 18, 2)
        assert float(loaded.train.x.min()) == 1

    def test_train_and_test_with_labels_and_trailing_colours(self, tmp_path: Path) -> None:
        x, y = np.random.rand(6, 8, 8, 3).astype(np.float32), np.arange(6)
        np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x[:2], y_test=y[:2])
        loaded = data.load(tmp_path / "a.npz")
        assert (loaded.shape, loaded.classes, len(loaded.test)) == ((3, 8, 8), 6, 2)

    def test_attribute_vectors(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", x=np.random.rand(20, 5), y=np.random.rand(20, 3))
        loaded = data.load(tmp_path / "a.npz")
        assert (loaded.shape, loaded.classes, loaded.attributes) == ((5,), None, 3)

    @pytest.mark.parametrize(
        ("arrays", "said"),
        [
            ({"x": np.array([[0.1, np.nan]] * 9)}, "expected finite numbers"),
            ({"x": np.array([[0.1, np.inf]] * 9)}, "expected finite numbers"),
            ({"x": np.zeros(9)}, r"expected numbers of shape \(N, \*shape\)"),
            ({"x": np.zeros((1, 4))}, "at least 2 data"),
            ({"z": np.zeros((9, 4))}, "x_train and x_test, or x"),
            ({"x": np.zeros((9, 4)), "y": np.zeros(5, int)}, "one label for each of 9 data"),
            ({"x": np.zeros((9, 4)), "y": np.array(3)}, "one label for each of 9 data"),
            ({"x": np.zeros((99, 4)), "y": np.full(99, 10**9)}, "numbered from 0, fewer than data"),
            ({"x": np.zeros((9, 4)), "y": np.full(9, -1)}, "numbered from 0, fewer than data"),
            (
                {"x_train": np.zeros((9, 4)), "x_test": np.zeros((9, 4)), "y_train": np.arange(9)},
                "one shape of labels",
            ),
            (
                {"x": np.zeros((9, 4)), "y": np.zeros(9)},
                "integer labels, −1 where missing, or attribute vectors",
            ),
            ({"x": np.zeros((9, 4)), "y": np.full(9, -7)}, "from -7"),
            ({"x": np.zeros((9, 4)), "y": np.full((9, 2), np.nan)}, "attribute vectors"),
            (
                {"x": np.full((9, 4), 2**24 + 1)},
                "expected counts up to 16,777,216.* in a larger unit",
            ),
            (
                {"x_train": np.full((9, 4), 9, np.uint8), "x_test": np.ones((9, 4))},
                "numbers of one type to train and to test in .*got float64 and uint8",
            ),
            (
                {"x_train": np.zeros((9, 4)), "x_test": np.zeros((9, 5))},
                r"one shape of data .*got \(4,\) to train and \(5,\) to test",
            ),
        ],
    )
    def test_bad_arrays(self, tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(ValueError, match=said):
            data.load(tmp_path / "a.npz")

    @pytest.mark.parametrize("name", ["a.npy", "a.npz"])
    def test_an_unreadable_or_truncated_file(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"no array")
        with pytest.raises(ValueError, match=r"cannot read .*a\.np"):
            data.load(tmp_path / name)
        np.savez(tmp_path / "whole.npz", x=np.random.rand(200, 8))
        (tmp_path / name).write_bytes((tmp_path / "whole.npz").read_bytes()[:5000])
        with pytest.raises(ValueError, match=r"cannot read .*a\.np"):
            data.load(tmp_path / name)

    @pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "int32", "int64", "uint64"])
    def test_integers_other_than_bytes_are_counts(self, tmp_path: Path, dtype: str) -> None:
        counts = np.random.RandomState(0).poisson(9.0, (20, 5)).astype(dtype)
        np.save(tmp_path / "a.npy", counts)
        loaded = data.load(tmp_path / "a.npy")
        most = max(float(loaded.train.x.max()), float(loaded.test.x.max()))
        assert most == counts.max()
        assert loaded.stored == f"counts ({dtype}) from {counts.min()} to {most:.0f}, as they are"

    def test_bytes_to_train_and_to_test_are_divided_alike(self, tmp_path: Path) -> None:
        x = np.array([[0, 255], [3, 4]], np.uint8)
        np.savez(tmp_path / "a.npz", x_train=x, x_test=x // 200)
        loaded = data.load(tmp_path / "a.npz")
        assert loaded.stored == "bytes from 0 to 255, divided by 255"
        assert float(loaded.test.x.max()) == pytest.approx(1 / 255)

    def test_numbers_and_truths_are_kept(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.linspace(-2, 3, 40).reshape(20, 2))
        assert data.load(tmp_path / "a.npy").stored == "numbers from -2 to 3, as they are"
        np.save(tmp_path / "a.npy", np.eye(20, dtype=bool).reshape(20, 1, 4, 5))
        loaded = data.load(f"{tmp_path / 'a.npy'}:rotated")
        assert loaded.stored == "pixels that are 0 or 1"
        assert loaded.train.x.unique().tolist() == [0, 1]

    def test_integers_of_zero_and_one_are_binary_pixels(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.eye(20, dtype=np.uint8))
        assert data.load(tmp_path / "a.npy").train.x.unique().tolist() == [0, 1]


class TestNames:
    @pytest.mark.parametrize(
        ("name", "near"), [("mnsit", "mnist"), ("digit", "digits"), ("cifar", "cifar10")]
    )
    def test_the_nearest_name_is_offered(self, name: str, near: str) -> None:
        with pytest.raises(ValueError, match=f"named '{name}'; did you mean '{near}'"):
            data.load(name)

    @pytest.mark.parametrize("name", [*TORCHVISION, "celeba"])
    def test_missing_files_say_how_to_get_them(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"cannot read .*download=True, --download"):
            data.load(name, tmp_path)

    def test_an_unknown_binarisation(self) -> None:
        with pytest.raises(
            ValueError, match="one of threshold, static, dynamic, dequantize, got 'dynamc'"
        ):
            data.load("digits", binarize="dynamc")

    @pytest.mark.parametrize("name", TORCHVISION)
    def test_torchvision_s_layouts_become_channels_first(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each class stores arrays in a layout of its own; stand-ins with those layouts, as
        torchvision documents them.
        """
        side = {"usps": 16, "svhn": 32, "cifar10": 32}.get(name, 28)
        shape = {"svhn": (5, 3, side, side), "cifar10": (5, side, side, 3)}.get(
            name, (5, side, side)
        )
        pixels = np.zeros(shape, np.uint8)
        pixels[0].flat[1] = 255  # the second stored value
        stored = pixels if name in ("usps", "svhn", "cifar10") else torch.as_tensor(pixels)
        labels = {"labels" if name == "svhn" else "targets": [0, 1, 2, 3, 4]}

        def stand_in(root: str, **options: object) -> SimpleNamespace:
            assert options["download"] is False
            return SimpleNamespace(data=stored, **labels)

        monkeypatch.setattr(torchvision.datasets, TORCHVISION[name][0], stand_in)
        loaded: Dataset = data.load(name)
        assert loaded.shape == ((3, 32, 32) if side == 32 else (1, side, side))
        where = {"cifar10": (1, 0, 0), "emnist": (0, 1, 0)}.get(name, (0, 0, 1))
        assert float(loaded.train.x[0][where]) == 1
        assert float(loaded.train.x.sum()) == 1
        assert loaded.classes == TORCHVISION[name][2]

    def test_celeba_has_attributes_and_is_cropped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class StandIn(torch.utils.data.Dataset):
            def __init__(
                self,
                root: str,
                split: str,
                transform: object,
                target_transform: object,
                **_: object,
            ) -> None:
                self.n, self.transform, self.target_transform = (
                    {"train": 4, "test": 2}[split],
                    transform,
                    target_transform,
                )

            def __len__(self) -> int:
                return self.n

            def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
                face = Image.fromarray(np.full((218, 178, 3), 40 * i, np.uint8))
                return self.transform(face), self.target_transform(torch.arange(40) % 2)

        monkeypatch.setattr(torchvision.datasets, "CelebA", StandIn)
        loaded = data.load("celeba")
        assert (loaded.shape, loaded.attributes, loaded.classes, len(loaded.test)) == (
            (3, 64, 64),
            40,
            None,
            2,
        )


def test_mnist_is_read(mnist: object) -> None:
    loaded: Dataset = mnist(binarize="threshold")
    assert (len(loaded.train), len(loaded.test), loaded.shape, loaded.classes) == (
        60_000,
        10_000,
        (1, 28, 28),
        10,
    )


@pytest.mark.cuda
def test_shuffling_and_binarising_stay_on_the_device() -> None:
    split = data.load("digits", binarize="dynamic").to("cuda").train
    assert all(t.is_cuda for batch in split.batches(100) for t in batch)
    assert torch.equal(split.fixed(1).x.cpu(), split.to("cpu").fixed(1).x)


class TestDivided:
    def test_each_datum_is_in_one_part(self) -> None:
        split = Split(torch.arange(50.0)[:, None], torch.arange(50))
        kept, held_out = split.divided(0.3, seed=1)
        assert (len(kept), len(held_out)) == (35, 15)
        both = torch.cat([kept.x, held_out.x])[:, 0]
        assert both.sort().values.equal(torch.arange(50.0))
        for part in (kept, held_out):
            assert part.y is not None
            assert part.y.equal(part.x[:, 0].long())
            assert bool((part.y.diff() > 0).all())

    def test_the_seed_chooses(self) -> None:
        split = Split(torch.arange(50.0))
        assert split.divided(10, 3)[1].x.equal(split.divided(0.2, 3)[1].x)
        assert not split.divided(10, 3)[1].x.equal(split.divided(10, 4)[1].x)

    def test_what_was_drawn_stays_drawn(self) -> None:
        split = Split(torch.rand(20, 3), binarize="static")
        kept, held_out = split.divided(0.5)
        both = {tuple(row) for row in torch.cat([kept.x, held_out.x]).tolist()}
        assert both == {tuple(row) for row in split.x.tolist()}
        drawn = Split(torch.rand(20, 3), binarize="dynamic").fixed()
        assert drawn.divided(0.5)[1].stored.shape == (10, 3)

    def test_a_data_set_holds_out_training_data_alone(self) -> None:
        dataset = data.load("digits").divided(100, 2).binarized("threshold").to("cpu")
        assert dataset.validation is not None
        assert len(dataset.train) + 100 == len(data.load("digits").train)
        assert set(dataset.validation.x.unique().tolist()) == {0.0, 1.0}
        assert dataset.test.x.equal(data.load("digits", binarize="threshold").test.x)

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            (0.0, "a share of the data between 0 and 1, or a count below 5"),
            (-1, "a share of the data"),
            (1.5, "a share of the data"),
            (math.nan, "a share of the data"),
            (math.inf, "a share of the data"),
            ("many", "held_out as one number"),
            (5, "fewer than all 5 training data for validation, got 5"),
            (0.99, "fewer than all 5 training data for validation, got 5"),
            (600, "got 600"),
        ],
    )
    def test_what_leaves_nothing_is_refused(self, asked: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Split(torch.zeros(5)).divided(asked)

    def test_of_streams_the_same_data_are_held_out_and_held(self) -> None:
        x = torch.rand(30, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        held = Split(x, torch.arange(30))
        stream = StreamedSplit(list(zip(held.x, held.y.tolist(), strict=True)), workers=0)
        kept, held_out = held.divided(0.2, seed=3)
        kept_stream, of_stream = stream.divided(0.2, seed=3)
        assert isinstance(kept_stream, StreamedSplit)
        for of_held, of_streamed in ((kept, kept_stream.fixed()), (held_out, of_stream)):
            assert of_held.x.equal(of_streamed.x)
            assert of_held.y.equal(of_streamed.y)


def test_photographs_are_patches_in_colour_whose_test_part_is_the_right_of_each() -> None:
    found = data.load("photographs")
    assert found.shape == (3, 16, 16)
    assert found.class_names == ("temple", "flower")
    assert torch.bincount(found.train.y).tolist() == [26 * 32] * 2
    assert torch.bincount(found.test.y).tolist() == [26 * 8] * 2
    whole = load_sample_images().images[0]
    torch.testing.assert_close(
        found.train.x[33], torch.as_tensor(whole[16:32, 16:32]).permute(2, 0, 1) / 255
    )
    small = data.load("photographs:inverted", image_size=8)
    assert small.shape == (3, 8, 8)
    assert len(small.train) == 2 * 53 * 64
    with pytest.raises(ValueError, match="patches of at most 128 pixels a side, got 200"):
        data.load("photographs", image_size=200)
