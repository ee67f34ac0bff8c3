"""Unpaired domains: batches shuffled apart, and other domains made of a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ppl_gen import data
from ppl_gen.data import Dataset, Split, StreamedSplit
from ppl_gen.data.domains import Domains


def numbered(n: int, start: int = 0, **options: str) -> Dataset:
    """Images of 2 × 2 pixels whose value says which they are."""
    x = ((start + torch.arange(n)) / 100.0)[:, None, None, None].expand(n, 1, 2, 2).contiguous()
    return Dataset(
        Split(x, torch.arange(n), **options),
        Split(x, torch.arange(n), **options),
        (1, 2, 2),
        n,
        "numbered",
    )


def seen(batches: data.UnpairedBatches) -> tuple[Tensor, Tensor]:
    one, two = (torch.cat(column)[:, 0, 0, 0] for column in zip(*batches, strict=True))
    return (100 * one).round().long(), (100 * two).round().long()


class TestUnpaired:
    @pytest.mark.parametrize("longer", ["a", "b"])
    def test_the_longer_is_seen_once_and_the_shorter_again_in_another_order(
        self, longer: str
    ) -> None:
        pair = (numbered(23), numbered(7, 50)) if longer == "a" else (numbered(7, 50), numbered(23))
        both = Domains(*pair)
        batches = both.train.batches(5)
        assert (len(batches), len(both.train)) == (5, 23)
        assert [(len(a), len(b)) for a, b in batches] == [(5, 5)] * 4 + [(3, 3)]
        columns = seen(batches)
        once, again = columns if longer == "a" else columns[::-1]
        assert once.sort().values.tolist() == list(range(23))
        walks = again.split(7)
        assert all(walk.sort().values.tolist() == list(range(50, 57)) for walk in walks[:3])
        assert not torch.equal(walks[0], walks[1])

    def test_a_new_order_in_every_pass_and_none_without_shuffling(self) -> None:
        both = Domains(numbered(20), numbered(20, 50))
        batches = both.train.batches(20)
        first, second = seen(batches), seen(batches)
        for one, two in zip(first, second, strict=True):
            assert not torch.equal(one, two)
        assert not torch.equal(first[0], first[1] - 50)  # shuffled apart
        a, b = seen(both.test.batches(6, shuffle=False))
        assert torch.equal(a, torch.arange(20))
        assert torch.equal(b, 50 + a)

    def test_labels_are_kept_apart(self) -> None:
        both = Domains(numbered(5), numbered(6))
        assert both.a.train.y is not None
        assert [len(batch) for batch in both.train.batches(5)] == [2, 2]
        assert both.shape == (1, 2, 2)
        assert both.to("cpu").shape == (1, 2, 2)

    def test_a_seed_repeats_the_order(self) -> None:
        batches = Domains(numbered(20), numbered(8)).train.batches(4)
        torch.manual_seed(1)
        first = seen(batches)
        torch.manual_seed(1)
        assert all(map(torch.equal, first, seen(batches)))

    @pytest.mark.parametrize(
        ("one", "two", "said"),
        [
            (
                "digits",
                "digits:coloured",
                r"same channels, got \(1, 8, 8\) \(digits\) and \(3, 8, 8\).*:colour",
            ),
            ("digits:coloured", "digits", r"same channels, got \(3, 8, 8\)"),
        ],
    )
    def test_channels_that_differ_and_the_remedy(self, one: str, two: str, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            Domains(data.load(one), data.load(two))
        grey = [name if "coloured" in name else f"{name}:colour" for name in (one, two)]
        assert Domains(*map(data.load, grey)).shape == (3, 8, 8)

    def test_sizes_that_differ_and_the_remedy(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.random.rand(20, 28, 28))
        name = str(tmp_path / "a.npy")
        with pytest.raises(
            ValueError,
            match=r"one size, got \(1, 8, 8\) \(digits\) and \(1, 28, 28\) .*--image-size",
        ):
            Domains(data.load("digits"), data.load(name))
        assert Domains(data.load("digits"), data.load(name, image_size=8)).shape == (1, 8, 8)

    @pytest.mark.parametrize("size", [0, 7])
    def test_batch_sizes_out_of_range(self, size: int) -> None:
        with pytest.raises(
            ValueError, match=f"batch size from 1 to the number of data, 6, got {size}"
        ):
            Domains(numbered(6), numbered(9)).train.batches(size)

    def test_streams(self, folder: Path) -> None:
        held, streamed = (data.load(folder, stream=stream) for stream in (False, True))
        assert isinstance(streamed.train, StreamedSplit)
        both = Domains(streamed, numbered_like(held, 30))
        first = torch.cat([a for a, _ in both.train.batches(4, shuffle=False)])
        assert len(first) == 30
        assert torch.equal(first[:18], held.train.x)
        assert torch.equal(first[18:], held.train.x[:12])


def numbered_like(dataset: Dataset, n: int) -> Dataset:
    x = torch.rand(n, *dataset.shape)
    return Dataset(Split(x), Split(x), dataset.shape)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty grey images of 8 × 8."""
    for i in range(20):
        Image.fromarray(np.random.randint(0, 256, (8, 8), np.uint8)).save(tmp_path / f"{i:02}.png")
    return tmp_path


class TestChanges:
    digits = data.load("digits")

    def test_inverted_and_rotated_come_back(self) -> None:
        twice = data.inverted(data.inverted(self.digits))
        assert torch.allclose(twice.train.x, self.digits.train.x, atol=1e-6)
        turned = data.rotated(self.digits)
        # Anticlockwise: the top row becomes the left column, from the bottom up.
        assert torch.equal(turned.test.x[:, 0, :, 0].flip(1), self.digits.test.x[:, 0, 0])
        assert turned.test.y is self.digits.test.y

    def test_colours_are_many_bright_and_repeat(self) -> None:
        one, two, other = (data.coloured(self.digits, seed) for seed in (0, 0, 1))
        assert torch.equal(one.train.x, two.train.x)
        assert not torch.equal(one.train.x, other.train.x)
        assert (one.shape, one.classes) == ((3, 8, 8), 10)
        assert torch.allclose(one.train.x.amax(1, keepdim=True), self.digits.train.x)
        colours = one.train.x.amax((2, 3)) / self.digits.train.x.amax((2, 3))
        assert len(colours.unique(dim=0)) == 1500
        tests = one.test.x.amax((2, 3)) / self.digits.test.x.amax((2, 3))
        assert not torch.allclose(tests, colours[:297], atol=0.1)

    def test_grey_in_colour(self) -> None:
        repeated = data.in_colour(self.digits)
        assert torch.equal(repeated.train.x, self.digits.train.x.expand(-1, 3, -1, -1))
        assert data.in_colour(repeated) is repeated

    def test_shrinking_averages_areas(self) -> None:
        x = torch.rand(3, 1, 28, 28)
        made = data.central(Dataset(Split(x), Split(x), (1, 28, 28)), 20, 10)
        assert made.shape == (1, 10, 10)
        assert torch.allclose(made.train.x[:, :, 0, 0], x[:, :, 4:6, 4:6].mean((2, 3)))
        # Where 20 does not divide, cells overlap by a pixel: of the mean, what is kept is near, not
        # equal.
        smaller = data.central(Dataset(Split(x), Split(x), (1, 28, 28)), 20, 8).train.x
        assert torch.allclose(smaller[:, :, 0, 0], x[:, :, 4:7, 4:7].mean((2, 3)))

    def test_a_flat_image_stays_flat_at_any_size(self) -> None:
        flat = torch.full((2, 1, 9, 7), 0.3)
        for size in (3, 7, 20):
            made = data.central(Dataset(Split(flat), Split(flat), (1, 9, 7)), 7, size)
            assert torch.allclose(made.train.x, torch.full((2, 1, size, size), 0.3))

    @pytest.mark.parametrize("name", ["inverted", "rotated", "coloured", "colour", "8x8"])
    def test_streams_are_changed_as_what_is_held(self, folder: Path, name: str) -> None:
        change = data.SUFFIXES[name] if name != "8x8" else lambda d: data.central(d, 6, 4)
        held, streamed = (change(data.load(folder, stream=stream)) for stream in (False, True))
        assert held.shape == streamed.shape
        # Batch-wise averaging may round otherwise than averaging all at once.
        assert torch.allclose(streamed.train.fixed().x, held.train.x, atol=1e-6)
        assert torch.allclose(streamed.test.fixed().x, held.test.x, atol=1e-6)

    @pytest.mark.parametrize(
        ("attempt", "said"),
        [
            (
                lambda: data.inverted(data.load("line")),
                r"images \(C, H, W\), got data of shape \(2,\)",
            ),
            (
                lambda: data.coloured(data.load("line")),
                r"grey images \(1, H, W\), got data of shape \(2,\)",
            ),
            (
                lambda: data.central(data.load("line"), 1),
                r"images \(C, H, W\), got data of shape \(2,\)",
            ),
            (
                lambda: data.rotated(data.load("digits", binarize="dynamic")),
                r"got them binarised \(dynamic\); load them with binarize=None",
            ),
            (
                lambda: data.coloured(data.coloured(TestChanges.digits)),
                r"grey images .* got .* \(3, 8, 8\)",
            ),
            (
                lambda: data.central(TestChanges.digits, 20, 8),
                "crop from 1 to the image's side, 8, got 20",
            ),
            (
                lambda: data.central(TestChanges.digits, 4, 0),
                "an image size of at least 1, got 0",
            ),
        ],
    )
    def test_bad_input(self, attempt: Callable[[], Dataset], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            attempt()


class TestNames:
    def test_suffixes_from_left_to_right(self) -> None:
        digits = data.load("digits")
        made = data.load("digits:inverted:coloured")
        assert made.name == "digits:inverted:coloured"
        assert torch.equal(made.train.x, data.coloured(data.inverted(digits)).train.x)
        assert torch.equal(data.load("digits").train.x, digits.train.x)

    def test_any_size(self) -> None:
        assert data.load("digits:rotated", image_size=16).shape == (1, 16, 16)
        assert data.load("digits", image_size=8).name == "digits"

    def test_a_folder_with_a_suffix(self, folder: Path) -> None:
        assert data.load(f"{folder}:inverted", image_size=6).shape == (1, 6, 6)

    def test_a_path_with_a_colon(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a:b.npy", np.random.rand(20, 8, 8))
        assert data.load(tmp_path / "a:b.npy").shape == (1, 8, 8)

    def test_mnist_shrunk(self, mnist: Callable[..., Dataset]) -> None:
        stored = mnist()
        small = data.load("mnist:8x8")
        assert (small.shape, small.classes, small.name) == ((1, 8, 8), 10, "mnist:8x8")
        assert data.load("mnist:central").shape == (1, 20, 20)
        # All ink of MNIST lies in the central 20 × 20 before centring by mass: most of it does
        # after.
        kept = data.central(stored, 20).train.x.sum() / stored.train.x.sum()
        assert 0.95 < float(kept) <= 1
        assert Domains(data.load("digits"), small).train.batches(100)

    @pytest.mark.parametrize("binarize", data.BINARIZATIONS)
    def test_binarised_after_all_else(self, binarize: str) -> None:
        """The same pixels as of the data set itself, and of its changes: 1 − x is drawn, not x
        turned around.
        """
        stored, made = (
            data.load("digits", binarize=binarize),
            data.load("digits", binarize=binarize),
        )
        assert torch.equal(stored.train.x, made.train.x)
        assert torch.equal(stored.test.fixed(0).x, made.test.fixed(0).x)
        assert (made.train.levels, made.binarize) == (17, binarize)
        changed, grey = (
            data.load("digits:inverted", binarize=binarize, image_size=16),
            data.load("digits:inverted"),
        )
        assert (changed.shape, changed.name, changed.binarize) == (
            (1, 16, 16),
            "digits:inverted",
            binarize,
        )
        drawn = changed.train.fixed(0).x
        if binarize != "dequantize":
            assert drawn.unique().tolist() == [0, 1]
        # Over 1500 images the mean of a pixel has a standard error of at most 0.5 / √1500 = 0.013;
        # thresholds shift it.
        tolerance = 0.15 if binarize == "threshold" else 4 * 0.5 / 1500**0.5 + 0.5 / 17
        assert abs(float(drawn.mean() - grey.train.x.mean())) < tolerance

    def test_an_unknown_binarisation_is_said_before_anything_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "a.npy").write_bytes(b"nothing")
        with pytest.raises(ValueError, match=r"binarize None or one of .*, got 'dynamik'"):
            data.load(tmp_path / "a.npy", binarize="dynamik")

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            (
                "digits:invertd",
                r"no suffix named 'invertd' in 'digits:invertd'; did you mean 'inverted'\?",
            ),
            ("digits:", "no suffix named ''"),
            ("digit:inverted", r"named 'digit'; did you mean 'digits'\?"),
            (
                "digits:8x8",
                "the suffix :8x8 does not fit digits: it takes the central 20 × 20 pixels, got "
                "images of 8 × 8; leave it out",
            ),
            (
                "digits:inverted:central",
                "the suffix :central does not fit digits:inverted: it takes the central 20",
            ),
            (
                "line:inverted",
                r"suffix :inverted does not fit line: expected images .* got data of shape \(2,\)",
            ),
        ],
    )
    def test_unknown_names(self, name: str, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            data.load(name)


def test_unpaired_domains_share_no_training_datum_and_keep_their_test_pairs() -> None:
    a, b = data.load("digits"), data.load("digits:inverted")
    pair = data.Domains.unpaired(a, b)
    assert torch.equal(pair.train.a.x, a.train.x[:750])
    assert torch.equal(pair.train.b.x, b.train.x[750:])
    assert torch.equal(pair.train.b.y, b.train.y[750:])
    assert torch.equal(pair.test.a.x, 1 - pair.test.b.x)
    shorter = replace(b, train=data.Split(b.train.x[:100]))
    with pytest.raises(ValueError, match="got 1500 and 100"):
        data.Domains.unpaired(a, shorter)
