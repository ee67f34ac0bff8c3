"""Measured attributes of digits, captions made of them, and the encoder that reads these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ppl_gen import data
from ppl_gen.data.attributes import edges, slant, thickness
from ppl_gen.data.words.captions import Captions, TextEncoder


@pytest.fixture(scope="module")
def digits() -> data.Split:
    return data.load("digits").train


def annulus(width: float, radius: float = 8.0, side: int = 28) -> Tensor:
    """A ring of a stroke, its edge a pixel wide."""
    ticks = torch.arange(side) - (side - 1) / 2
    distance = (ticks[:, None].square() + ticks.square()).sqrt()
    return (width / 2 + 0.5 - (distance - radius).abs()).clamp(0, 1)[None, None]


def ellipse(shear: float, side: int = 41) -> Tensor:
    """A Gaussian blob, higher than wide, sheared to the right by so many columns per row up."""
    ticks = torch.arange(side) - (side - 1) / 2
    up = -ticks[:, None]
    return (-0.5 * (((ticks - shear * up) / 2).square() + (up / 5).square())).exp()[None, None]


class TestThickness:
    @pytest.mark.parametrize("width", [1, 2, 3, 5])
    def test_of_a_bar_it_is_twice_the_area_over_the_perimeter(self, width: int) -> None:
        bar = torch.zeros(1, 1, 28, 28)
        bar[..., 3:23, 10 : 10 + width] = 1
        perimeter = 2 * (20 + width) - (2 - 2**0.5)  # one corner is cut by the diagonal difference
        assert thickness(bar).item() == pytest.approx(2 * 20 * width / perimeter, rel=1e-5)

    @pytest.mark.parametrize("width", [1.5, 2.0, 3.0, 4.0])
    def test_of_a_ring_it_is_the_width_of_the_stroke(self, width: float) -> None:
        # Forward differences are off by some per cent on slanted edges.
        assert thickness(annulus(width)).item() == pytest.approx(width, rel=0.07)

    def test_dilation_makes_every_digit_thicker(self, digits: data.Split) -> None:
        large = (F.interpolate(digits.x[:200], size=(32, 32), mode="bilinear") > 0.5).float()
        assert (thickness(F.max_pool2d(large, 3, 1, 1)) > thickness(large)).all()

    def test_pale_ink_is_as_thick(self, digits: data.Split) -> None:
        assert torch.allclose(thickness(digits.x / 3), thickness(digits.x), rtol=1e-4)


class TestSlant:
    @pytest.mark.parametrize("shear", [-0.5, 0.0, 0.3, 0.8])
    def test_it_is_the_shear(self, shear: float) -> None:
        # The blob ends at the picture's border, four standard deviations up: what is cut off is
        # 10⁻³ of its moments.
        assert slant(ellipse(shear)).item() == pytest.approx(shear, abs=1e-3)

    def test_a_mirror_turns_its_sign(self, digits: data.Split) -> None:
        assert torch.allclose(slant(digits.x.flip(-1)), -slant(digits.x), atol=1e-5)

    @pytest.mark.parametrize("shear", [-0.4, 0.25])
    def test_shearing_digits_adds_as_much(self, digits: data.Split, shear: float) -> None:
        large = F.pad(F.interpolate(digits.x[:200], size=(32, 32), mode="bilinear"), (16,) * 4)
        # From a pixel (c, r), r downwards, colour is taken at c + shear · r.
        theta = torch.tensor([[1.0, shear, 0.0], [0.0, 1.0, 0.0]]).expand(200, 2, 3)
        grid = F.affine_grid(theta, large.shape, align_corners=False)
        sheared = F.grid_sample(large, grid, align_corners=False)
        # Bilinear interpolation blurs along rows alone, evenly to both sides: moments stay but for
        # its rounding.
        assert torch.allclose(slant(sheared) - slant(large), torch.full((200,), shear), atol=2e-3)

    def test_upright_lines_and_blank_images(self) -> None:
        images = torch.zeros(3, 3, 8, 8)
        images[0, :, :, 3] = 1
        images[1, :, 4, :] = 1  # lies flat: no height, no slant
        assert slant(images).tolist() == [0, 0, 0]
        assert thickness(images)[2] == 0


class TestEdges:
    def test_a_step_has_an_edge_of_two_pixels(self) -> None:
        x = torch.zeros(1, 1, 6, 6)
        x[..., 3:] = 1
        assert torch.equal(edges(x)[0, 0], torch.tensor([0.0, 0, 1, 1, 0, 0]).expand(6, 6))

    def test_they_are_images_in_the_unit_interval(self, digits: data.Split) -> None:
        outline = edges(digits.x.expand(-1, 3, -1, -1))
        assert outline.shape == digits.x.shape
        assert outline.min() >= 0
        assert outline.max() == 1
        assert not edges(torch.ones(2, 1, 8, 8)).any()

    def test_turning_the_image_turns_them(self, digits: data.Split) -> None:
        turned = edges(digits.x.rot90(1, (2, 3)))
        assert torch.allclose(turned, edges(digits.x).rot90(1, (2, 3)), atol=1e-6)


class TestCaptions:
    def test_thirds_of_the_data(self, digits: data.Split) -> None:
        assert digits.y is not None
        words = [caption.split() for caption in Captions.fitted(digits.x).of(digits.x, digits.y)]
        for word in ("thin", "thick", "left-leaning", "upright", "slanted"):
            assert sum(word in caption for caption in words) == pytest.approx(500, abs=1)

    def test_they_say_what_is_measured(self, digits: data.Split) -> None:
        captions = Captions((1.5, 2.0), (-0.1, 0.2))
        thin, thick = annulus(0.8), annulus(3.0)
        assert captions.of(torch.cat([thin, thick]), torch.tensor([0, -1])) == [
            "a thin upright zero",
            "a thick upright digit",
        ]
        assert captions.of(ellipse(0.5), torch.tensor([8])) == ["a thick slanted eight"]
        assert Captions((1, 99), (-0.1, 0.2)).of(ellipse(0.0), torch.tensor([8])) == [
            "an upright eight"
        ]
        assert Captions((1, 99), (0.2, 0.3)).of(ellipse(0.0), torch.tensor([1])) == [
            "a left-leaning one"
        ]

    def test_round_trip(self, digits: data.Split) -> None:
        assert digits.y is not None
        captions = Captions.fitted(digits.x)
        said = captions.of(digits.x[:300], digits.y[:300])
        tokens = captions.encode(said)
        assert (tokens.shape, tokens.dtype) == ((300, 4), torch.long)
        assert captions.decode(tokens) == said
        assert int(tokens.max()) < len(captions.vocabulary)
        assert len(set(captions.vocabulary)) == len(captions.vocabulary)
        assert (tokens[:, :3] > 0).all()

    def test_all_that_is_said_of_digits_is_a_sentence(self, digits: data.Split) -> None:
        assert digits.y is not None
        captions = Captions.fitted(digits.x)
        assert set(captions.of(digits.x, digits.y)) <= captions.sentences
        assert len(captions.sentences) == 3 * 3 * 11
        captions.expect_sentence("A thick  slanted seven")

    def test_any_words_that_are_taken_come_back(self) -> None:
        captions = Captions((1, 2), (0, 1), ("oak", "ash-tree", "éclair", "7"))
        tokens = captions.encode(sorted(captions.sentences))
        assert captions.decode(tokens) == sorted(captions.sentences)

    def test_long_and_loud_captions(self) -> None:
        tokens = Captions((1, 2), (0, 1)).encode(["A THICK thick thick slanted seven", "seven"])
        assert tokens.shape == (2, 6)
        assert (tokens[1] > 0).tolist() == [True] + [False] * 5

    @pytest.mark.parametrize(
        ("attempt", "said"),
        [
            (
                lambda c: c.encode(["a thik seven"]),
                r"no word 'thik', of 'a thik seven'; did you mean 'thick'\?",
            ),
            (lambda c: c.encode(["a seven", " "]), "at least a word, got ' '"),
            (
                lambda c: c.of(torch.rand(3, 1, 8, 8), torch.tensor([0, 1])),
                r"expected 3 labels, .* shape \(2,\)",
            ),
            (
                lambda c: c.of(torch.rand(2, 1, 8, 8), torch.tensor([0.0, 1.0])),
                r"expected 2 labels, .*torch.float32",
            ),
            (
                lambda c: c.of(torch.rand(2, 1, 8, 8), torch.tensor([0, 10])),
                r"labels in 0, …, 9, .* got 0 to 10",
            ),
            (
                lambda c: c.expect_sentence("seven thick a a thick"),
                r"a thick slanted zero.* got 'seven thick a a thick'",
            ),
            (
                lambda c: c.expect_sentence("a thick seven"),
                "left-leaning, upright or slanted; zero to digit",
            ),
            (lambda c: c.expect_sentence("a thick slanted sevn"), "did you mean 'seven'?"),
            (
                lambda c: Captions((1, 2), (0, 1), ("Oak", "ash")),
                "one lower-case word each, got 'Oak'",
            ),
            (
                lambda c: Captions((1, 2), (0, 1), ("oak tree",)),
                "got 'oak tree'; join words by hyphens",
            ),
            (lambda c: Captions((1, 2), (0, 1), ("",)), "one lower-case word each, got ''"),
            (
                lambda c: Captions((1, 2), (0, 1), ("b", "a")),
                "names other than a, an, thin, .*, got 'a'",
            ),
            (
                lambda c: Captions((1, 2), (0, 1), ("oak", "oak")),
                "different names, got 'oak' twice",
            ),
            (lambda c: Captions((1, 2), (0, 1), ("digit",)), "different names, got 'digit' twice"),
            (lambda c: Captions.fitted(torch.rand(2, 1, 8, 8)), "at least 3 images"),
            (lambda c: Captions.fitted(torch.ones(5, 1, 8, 8)), "images that differ in thickness"),
            (
                lambda c: thickness(torch.rand(8, 8)),
                r"expected images \(N, C, H, W\), got \(8, 8\)",
            ),
            (lambda c: slant(torch.rand(2, 8, 8)), r"got \(2, 8, 8\)"),
            (lambda c: edges(torch.rand(2, 64)), r"got \(2, 64\)"),
            (
                lambda c: TextEncoder(1, 4),
                "at least 2 words and sizes of at least 1, got 1 words, dim 4",
            ),
            (lambda c: TextEncoder(5, 0), "dim 0"),
        ],
    )
    def test_bad_input(self, attempt: Callable[[Captions], Any], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            attempt(Captions((1, 2), (0, 1)))


class TestTextEncoder:
    captions = Captions((1, 2), (0, 1))

    def encoder(self) -> TextEncoder:
        return TextEncoder(len(self.captions.vocabulary), 5)

    def test_shapes_with_leading_axes(self) -> None:
        encoder = self.encoder()
        tokens = self.captions.encode(["a thin upright three", "an upright seven"])
        assert encoder(tokens).shape == (2, 5)
        assert torch.allclose(encoder(tokens.expand(4, 3, 2, 4))[1, 2], encoder(tokens), atol=1e-6)

    def test_padding_is_not_read(self) -> None:
        encoder, tokens = self.encoder(), self.captions.encode(["an upright seven"])
        assert torch.allclose(encoder(F.pad(tokens, (0, 5))), encoder(tokens), atol=1e-6)

    def test_order_is(self) -> None:
        encoder = self.encoder()
        one, two = encoder(self.captions.encode(["thin three", "three thin"]))
        assert not torch.allclose(one, two, atol=1e-3)

    def test_it_learns_what_a_caption_says(self) -> None:
        said = [
            f"a {i} {j} {k}"
            for i in ("thin", "thick")
            for j in ("upright", "slanted")
            for k in ("one", "two")
        ]
        tokens = self.captions.encode(said)
        wanted = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
        encoder = TextEncoder(len(self.captions.vocabulary), 3)
        optimizer = torch.optim.Adam(encoder.parameters(), 1e-2)
        for _ in range(150):
            optimizer.zero_grad()
            F.mse_loss(encoder(tokens), wanted).backward()
            optimizer.step()
        assert torch.equal(encoder(tokens).sign(), wanted)
