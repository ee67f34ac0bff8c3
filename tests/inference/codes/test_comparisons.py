"""Attributes, neighbours, scores of oddness and overlaps, where the answers are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ppl_gen.inference import (
    Codes,
    affinity,
    attribute_directions,
    code_distance,
    decode,
    detection,
    encode,
    improbability,
    nearest,
    one_pass,
    overlap,
    reconstruction_error,
    retrieval,
)
from ppl_gen.models import autoencoder, pca, toy, vae


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def ppca() -> toy.PPCA:
    return toy.PPCA(torch.randn(5, 2, generator=generator()), torch.arange(5.0), 0.5)


class TestAttributes:
    """Codes a u + b v + noise, where a and b go together."""

    def correlated(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        n = 4000
        own = generator()
        a = torch.rand(n, generator=own) < 0.5
        same = torch.rand(n, generator=own) < 0.85
        b = torch.where(same, a, ~a)
        u, v = torch.tensor([1.0, 0.0, 2.0]), torch.tensor([0.0, 1.0, -1.0])
        noise = torch.randn(n, 3, generator=own)
        return a[:, None] * u + b[:, None] * v + noise, a, b, u, v

    def test_balanced_directions_are_the_true_ones(self) -> None:
        codes, a, b, u, v = self.correlated()
        found = attribute_directions(codes, a, b.float())
        for direction, truth in ((found.first, u), (found.second, v)):
            off = (direction.value - truth).abs()
            assert bool((off < 4 * direction.standard_error).all())
        assert int(found.counts.sum()) == len(codes)
        assert found.verdict.passes

    def test_plain_ones_hold_some_of_the_other(self) -> None:
        """E[b | a] − E[b | not a] = 0.7."""
        codes, a, b, u, v = self.correlated()
        found = attribute_directions(codes, a, b)
        torch.testing.assert_close(found.plain_first, (u + 0.7 * v).double(), atol=0.15, rtol=0)

    def test_numbers_are_cut_at_their_median(self) -> None:
        codes, a, b, _, _ = self.correlated()
        spread = torch.rand(len(codes), generator=generator(1)) / 2
        told = attribute_directions(codes, a + spread, b + spread)
        assert abs(float(told.counts[0].sum()) - len(codes) / 2) <= 60
        torch.testing.assert_close(
            attribute_directions(codes, a, b).first.value,
            attribute_directions(codes, a.long(), b).first.value,
        )

    def test_a_grid_is_linear_in_both(self) -> None:
        codes, a, b, _, _ = self.correlated()
        found = attribute_directions(codes, a, b)
        z = torch.tensor([1.0, 2.0, 3.0])
        grid = found.grid(z, steps=3, reach=2.0).reshape(3, 3, 3)
        first, second = found.first.value.float(), found.second.value.float()
        torch.testing.assert_close(grid[1, 1], z)
        torch.testing.assert_close(grid[1, 2], z + 2 * first)
        torch.testing.assert_close(grid[0, 1], z + 2 * second)
        torch.testing.assert_close(grid[2, 0], z - 2 * first - 2 * second)

    def test_effects_of_a_linear_decoder(self, ppca: toy.PPCA) -> None:
        own = generator(3)
        codes = torch.randn(400, 2, generator=own)
        found = attribute_directions(codes, codes[:, 0] > 0, codes[:, 1] > 0)
        seen = found.effects(ppca, codes[:9], (lambda x: x[:, 0], lambda x: x[:, 1]))
        for name, direction in (("first", found.first), ("second", found.second)):
            change = ppca.weight.double() @ direction.value
            for i, measured in enumerate(("first", "second")):
                effect = seen[f"{measured} along {name}"]
                torch.testing.assert_close(effect.value, change[i].expand(9), atol=1e-4, rtol=0)

    def test_an_empty_kind_is_named(self) -> None:
        codes = torch.randn(20, 3, generator=generator())
        a = torch.arange(20) < 10
        with pytest.raises(
            ValueError, match=r"much of the first and little of the second .* got 0"
        ):
            attribute_directions(codes, a, a | (torch.arange(20) < 15))
        with pytest.raises(ValueError, match="for each of 20 codes"):
            attribute_directions(codes, a[:3], a)


class TestNeighbours:
    def test_nearest_first(self) -> None:
        gallery = torch.tensor([[0.0], [1.0], [5.0], [2.5]])
        found = nearest(torch.tensor([[2.0], [9.0]]), gallery, k=2)
        assert found.places.tolist() == [[3, 1], [2, 3]]
        assert found.distances.tolist() == [[0.5, 1.0], [4.0, 6.5]]

    def test_precision_by_hand(self) -> None:
        x = torch.tensor([[0.0], [10.0]])
        gallery = torch.tensor([[0.1], [0.2], [10.1], [10.2]])
        y = torch.tensor([0, 1, 1, 1])
        queries = (x, -x, torch.tensor([0, 1]))
        found = retrieval(queries, (gallery, torch.tensor([[0.0], [-9.0], [-8.0], [1.0]]), y), k=2)
        assert found.by_pixels.tolist() == [0.5, 1.0]
        assert found.by_code.tolist() == [0.5, 1.0]
        assert found.by_chance == pytest.approx(0.5 * 0.25 + 0.5 * 0.75)
        parts = found.parts
        assert float(parts["by pixels"].value) == 0.75
        assert float(parts["by pixels"].standard_error) == pytest.approx(0.25)

    def test_of_neighbours_at_random(self) -> None:
        own = generator()
        points = torch.randn(2, 600, 2, generator=own)
        y = torch.randint(3, (2, 600), generator=own)
        found = retrieval((points[0], points[0], y[0]), (points[1], points[1], y[1]), k=5)
        precision = found.parts["by code"]
        assert abs(float(precision.value) - found.by_chance) < 4 * float(precision.standard_error)
        assert found.verdict.tags == ("alike",)

    def test_bad_input(self) -> None:
        points = torch.rand(6, 2)
        y = torch.arange(6) % 2
        with pytest.raises(ValueError, match="labels of all queries, got −1"):
            retrieval((points, points, y - 1), (points, points, y), k=2)
        with pytest.raises(ValueError, match="at least k = 7 points, got 6"):
            nearest(points, points, k=7)
        with pytest.raises(ValueError, match="a code and a label, a whole number"):
            retrieval((points, points[:3], y), (points, points, y), k=2)


class TestScores:
    def test_error_and_evidence_are_exact(self, ppca: toy.PPCA) -> None:
        x = ppca.loc + torch.randn(8, 5, generator=generator(1))
        mean = ppca.exact_posterior(x).mean
        expected = (x - ppca.loc - mean @ ppca.weight.T).square().sum(1)
        torch.testing.assert_close(reconstruction_error(ppca, x), expected)
        found = improbability(ppca, x, particles=2, seed=0)
        exact = -ppca.exact_log_evidence(x)
        torch.testing.assert_close(found.value.float(), exact, atol=1e-4, rtol=1e-4)

    def test_an_autoencoder_has_an_error_and_no_evidence(self) -> None:
        x = torch.rand(20, 4, generator=generator())
        exact = pca(x, 2)
        torch.testing.assert_close(reconstruction_error(exact, x), (x - exact(x)).square().sum(1))
        with pytest.raises(ValueError, match="got Autoencoder, which has none"):
            improbability(exact, x)

    def test_distance_to_codes(self) -> None:
        usual = torch.tensor([[0.0], [1.0], [4.0]])
        found = code_distance(torch.tensor([[0.0], [6.0]]), usual, k=2)
        torch.testing.assert_close(found, torch.tensor([0.5, 3.5]).double())


class TestDetection:
    def test_area_by_hand_and_by_scikit_learn(self) -> None:
        novel = torch.tensor([True, True, False, False, False])
        score = torch.tensor([3.0, 1.0, 0.0, 1.0, 2.0])
        found = detection({"s": score}, novel)
        assert float(found.areas["s"].value) == pytest.approx((3 + 1.5) / 6)
        assert float(found.areas["s"].value) == pytest.approx(roc_auc_score(novel, score))
        false, true = found.curve("s")
        assert float(torch.trapezoid(true, false)) == pytest.approx(4.5 / 6)

    def test_the_error_is_that_of_repetition(self) -> None:
        """Over 300 data sets, the mean of s² is the variance of the area, and intervals hold it."""
        own = generator()
        areas, errors, held = [], [], 0
        truth = float(torch.special.ndtr(torch.tensor(1 / 2**0.5)))  # P(N(1, 1) > N(0, 1))
        for _ in range(300):
            score = torch.randn(90, generator=own)
            novel = torch.arange(90) < 30
            area = detection({"s": score + novel}, novel).areas["s"]
            areas.append(float(area.value))
            errors.append(float(area.standard_error))
            low, high = area.interval()
            held += float(low) <= truth <= float(high)
        spread = float(np.std(areas))
        assert float(np.sqrt(np.mean(np.square(errors)))) == pytest.approx(
            spread, rel=4 / (2 * 300) ** 0.5
        )
        assert np.mean(areas) == pytest.approx(truth, abs=4 * spread / 300**0.5)
        assert held / 300 > 0.95 - 4 * (0.05 * 0.95 / 300) ** 0.5

    def test_a_perfect_score_has_an_interval(self) -> None:
        novel = torch.arange(20) < 8
        found = detection({"perfect": novel.float(), "none": torch.zeros(20)}, novel)
        low, high = found.areas["perfect"].interval()
        assert 0.5 < float(low) < 1
        assert float(high) == pytest.approx(1)
        assert float(found.areas["none"].value) == 0.5
        assert found.best == "perfect"
        assert found.difference("perfect", "none") == (0.5, 0.0)

    def test_bad_input(self) -> None:
        novel = torch.arange(6) < 0
        with pytest.raises(ValueError, match="at least 2 novel data, got 0; is the class empty"):
            detection({"s": torch.zeros(6)}, novel)
        novel = torch.arange(6) < 3
        with pytest.raises(ValueError, match="expected finite scores 's'"):
            detection({"s": torch.full((6,), torch.nan)}, novel)
        with pytest.raises(ValueError, match="expected scores by name, got none"):
            detection({}, novel)


class TestOverlap:
    def test_affinity_of_normals(self) -> None:
        """BC(N(0, 1), N(m, s²)) = √(2s/(1 + s²)) exp(−m²/(4(1 + s²)))."""
        m, s = 1.5, 0.4
        codes = Codes(torch.tensor([[0.0], [m]]), torch.tensor([[1.0], [s]]))
        expected = (2 * s / (1 + s**2)) ** 0.5 * np.exp(-(m**2) / (4 * (1 + s**2)))
        found = affinity(codes)
        assert float(found[0, 1]) == pytest.approx(expected)
        torch.testing.assert_close(found.diagonal(), torch.ones(2).double())

    def test_full_covariances_agree_with_independent_ones(self) -> None:
        own = generator()
        mean, sd = torch.randn(2, 6, 3, generator=own)
        codes = Codes(mean, sd.abs() + 0.1)
        as_full = Codes(mean, codes.sd, codes.sd.diag_embed())
        torch.testing.assert_close(affinity(codes), affinity(as_full))
        turn = torch.linalg.qr(torch.randn(3, 3, generator=own)).Q
        turned = torch.linalg.cholesky(turn @ codes.covariance @ turn.T)
        torch.testing.assert_close(
            affinity(Codes(mean @ turn.T, codes.sd, turned)), affinity(codes), rtol=1e-4, atol=1e-6
        )

    def test_of_data(self, ppca: toy.PPCA) -> None:
        x = ppca.loc + torch.randn(30, 5, generator=generator(1))
        found = overlap(ppca, x, labels=torch.arange(30) % 2)
        torch.testing.assert_close(found.errors, reconstruction_error(ppca, x))
        rho, error = found.correlation
        assert -1 < rho < 1
        assert 0 < error < 0.3
        assert found.with_other_labels.shape == found.overlaps.shape == (30,)
        with pytest.raises(ValueError, match="at least 4 data"):
            overlap(ppca, x[:3])
        with pytest.raises(ValueError, match="got those of an autoencoder"):
            overlap(pca(x, 2), x)


class TestOnePass:
    def test_only_what_is_missing_is_filled(self) -> None:
        x = torch.rand(6, 4, generator=generator())
        mask = torch.tensor([False, True, False, True])
        exact = pca(x, 2)
        found = one_pass(exact, x, mask)
        assert torch.equal(found[:, ~mask], x[:, ~mask])
        expected = exact(x * ~mask)
        torch.testing.assert_close(found[:, mask], expected[:, mask])
        spoilt = x.masked_fill(mask, torch.nan)
        assert torch.equal(one_pass(exact, spoilt, mask), found)

    def test_of_a_program(self) -> None:
        torch.manual_seed(0)
        program = vae((1, 4, 4), 2, hidden=(5,))
        x = torch.rand(3, 1, 4, 4).round()
        mask = torch.zeros(3, 1, 4, 4, dtype=torch.bool)
        mask[:, :, 2:] = True
        state = torch.get_rng_state()
        found = one_pass(program, x, mask)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(found[~mask], x[~mask])
        assert bool(((found[mask] > 0) & (found[mask] < 1)).all())

    def test_bad_masks(self) -> None:
        x = torch.rand(6, 4)
        with pytest.raises(ValueError, match="expected a mask of booleans"):
            one_pass(autoencoder((4,), 2), x, x)
        with pytest.raises(ValueError, match="expected a mask of booleans"):
            one_pass(autoencoder((4,), 2), x, torch.ones(3, dtype=torch.bool))


def test_codes_go_there_and_back(ppca: toy.PPCA) -> None:
    """Without noise, encoding what was decoded shrinks a code by the posterior's factor."""
    sharp = toy.PPCA(ppca.weight, ppca.loc, 1e-3)
    z = torch.randn(4, 2, generator=generator(5))
    torch.testing.assert_close(encode(sharp, decode(sharp, z)).mean, z, atol=1e-4, rtol=1e-4)
