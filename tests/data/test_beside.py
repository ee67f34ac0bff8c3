"""What lies beside images: pairs side by side or in an array, and captions that people wrote."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ppl_gen.app.parts.conditions import condition_of
from ppl_gen.app.recipes import RECIPES
from ppl_gen.data import load

N = 20


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Pairs side by side: 16 × 32 pixels, dark on the left and light on the right."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(N):
        pixels = np.full((16, 32), 255, dtype=np.uint8)
        pixels[:, :16] = i
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return folder


class TestPairs:
    @pytest.mark.parametrize("size", [None, 8])
    def test_images_side_by_side_are_parted_before_they_are_brought_to_a_size(
        self, photos: Path, size: int | None
    ) -> None:
        pairs = load(photos, image_size=size, given="pairs")
        assert pairs.shape == (1, size or 16, size or 16)
        assert pairs.classes is None
        assert pairs.attributes is None
        for split in (pairs.train, pairs.test):
            assert split.y.shape == split.x.shape
            assert bool((split.x == 1).all())
            assert float(split.y.max()) < N / 255

    def test_suffixes_change_both(self, photos: Path) -> None:
        pairs = load(f"{photos}:inverted", given="pairs")
        assert float(pairs.train.x.max()) == 0
        assert float(pairs.train.y.min()) > 1 - N / 255

    def test_an_array_of_images_beside_x(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        x = rng.integers(0, 256, (N, 8, 8), dtype=np.uint8)
        y = rng.random((N, 8, 8, 3))
        np.savez(tmp_path / "pairs.npz", x=x, y=y)
        pairs = load(tmp_path / "pairs.npz")
        assert (pairs.shape, pairs.classes, pairs.attributes) == ((1, 8, 8), None, None)
        assert pairs.train.y.shape == (18, 3, 8, 8)
        rows = np.random.RandomState(0).permutation(N)[2:]
        expected = torch.as_tensor(y[rows], dtype=torch.float32).movedim(-1, 1)
        torch.testing.assert_close(pairs.train.y, expected)

    def test_what_is_no_pair_is_refused(self, tmp_path: Path) -> None:
        for case, arrays in enumerate(
            ({"x": np.zeros((9, 4)), "y": np.zeros((9, 8, 8))}, {"x": np.zeros((9, 5, 5))})
        ):
            np.savez(tmp_path / f"{case}.npz", **arrays)
        with pytest.raises(ValueError, match="expected images y beside images x"):
            load(tmp_path / "0.npz")
        with pytest.raises(ValueError, match="expected pairs of images side by side"):
            load(tmp_path / "1.npz", given="pairs")
        with pytest.raises(ValueError, match="expected given None or one of pairs, captions"):
            load("digits", given="twins")

    def test_a_program_is_given_the_left_image(self, photos: Path) -> None:
        recipe = RECIPES["cvae"]
        config = recipe.configuration({"data": str(photos), "condition": "pair"})
        data = recipe.data(config)
        condition = condition_of(config, data)
        few = data.test.fixed(0, 2)
        assert condition.context(few)[0] is few.y
        with pytest.raises(ValueError, match="say --condition pair"):
            condition_of(config.changed(condition="label"), data)


class TestCaptions:
    def test_a_line_for_each_file(self, photos: Path) -> None:
        lines = [f"A picture of  {'bright' if i % 2 else 'dark'} things" for i in range(N)]
        (photos / "captions.txt").write_text("\n".join(lines) + "\n")
        data = load(photos, given="captions")
        assert data.captions is not None
        assert data.captions.words == ("a", "bright", "dark", "of", "picture", "things")
        order = np.random.RandomState(0).permutation(N)[:2]
        said = data.captions.decode(data.test.y)
        assert said == [" ".join(lines[i].lower().split()) for i in order]

    def test_a_name_and_a_tab(self, photos: Path) -> None:
        lines = [f"{i:02}.png\tnumber {'odd' if i % 2 else 'even'}" for i in reversed(range(N))]
        (photos / "captions.txt").write_text("\n".join(lines))
        data = load(photos, given="captions")
        parity = (data.train.x[:, 0, 0, 0] * 255).round().long() % 2
        words = data.captions.decode(data.train.y)
        assert words == [("number even", "number odd")[odd] for odd in parity.tolist()]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("one\ntwo\n", "expected a line for each of 20 images"),
            ("00.png\tone\n", "expected a caption of 01.png in"),
            ("00.png\t\n01.png\tx\n", "expected a caption of 00.png in"),
        ],
    )
    def test_an_image_without_a_caption_is_named(self, photos: Path, text: str, said: str) -> None:
        (photos / "captions.txt").write_text(text)
        with pytest.raises(ValueError, match=re.escape(said)):
            load(photos, given="captions")

    def test_they_are_the_condition_where_they_are(self, photos: Path) -> None:
        recipe = RECIPES["cgan"]
        config = recipe.configuration({"data": str(photos), "condition": "caption"})
        (photos / "captions.txt").write_text("\n".join(f"number {i % 3}" for i in range(N)))
        data = recipe.data(config)
        condition = condition_of(config, data)
        assert condition.captions is data.captions
        fitting = recipe.prepare(
            config.changed(batch_size=9, lr=1e-3, loss="hinge", epochs=1), data, torch.device("cpu")
        )
        fitting.begin(0, "eager")(*next(iter(fitting.batches)))
        assert fitting.is_finite()
        with pytest.raises(ValueError, match="no word 'four'"):
            condition.captions.expect_sentence("number four")
