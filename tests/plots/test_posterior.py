"""A guide beside MCMC in pictures: they are drawn, and say what they leave out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from ppl_gen import plots


class TestPictures:
    names = tuple(f"z[{i}]" for i in range(40))

    @pytest.mark.parametrize("count", [1, 2, 40])
    def test_they_are_drawn(self, count: int) -> None:
        guide, mcmc, names = (
            torch.randn(200, count),
            torch.randn(3, 50, count).cumsum(1) / 9,
            self.names[:count],
        )
        exact = mcmc.flatten(0, 1).mean(0), torch.full((count,), torch.nan if count == 2 else 1.0)
        pictures = [
            plots.posterior.contours(guide, mcmc, names, title="two"),
            plots.posterior.quantiles(guide, mcmc, names, exact=guide if count == 1 else None),
            plots.posterior.forest(
                guide, mcmc, names, exact=exact, scaled=count == 2, title="intervals"
            ),
            plots.posterior.traces(mcmc, names),
        ]
        for picture in pictures:
            assert isinstance(picture, Figure)
            picture.canvas.draw()
        if count == 40:
            assert "12 of 40" in pictures[1].get_suptitle()
            assert "30 of 40" in pictures[2].axes[0].get_title()
            assert "8 of 40" in pictures[3].axes[0].get_title()

    def test_the_pair_is_the_one_whose_correlation_is_missed(self) -> None:
        mcmc = torch.randn(2, 500, 4)
        mcmc[..., 3] = mcmc[..., 1] + 0.1 * mcmc[..., 3]
        axes = plots.posterior.contours(torch.randn(500, 4), mcmc, self.names[:4]).axes[0]
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("z[1]", "z[3]")

    @pytest.mark.parametrize("scaled", [False, True])
    def test_a_forest_stays_within_supports(self, scaled: bool) -> None:
        """mean ± 2 sd of a scale of mean 3 and sd 4, of a share of mean 0.9 and sd 0.2, and of what
        has no ends.
        """
        mean = torch.tensor([3.0, 0.9, 0.0]).double()
        sd = torch.tensor([4.0, 0.2, 1.0]).double()
        mcmc = mean + sd * torch.rand(2, 50, 3)
        support = (torch.tensor([0.0, 0.0, -torch.inf]), torch.tensor([torch.inf, 1.0, torch.inf]))
        figure = plots.posterior.forest(
            mcmc[0], mcmc, ["scale", "share", "z"], (mean, sd), scaled, support
        )
        bars = figure.axes[0].containers[0][2][0].get_segments()
        found = torch.tensor(np.array([[bar[0][0], bar[1][0]] for bar in bars]))
        if scaled:
            pooled = mcmc.flatten(0, 1)
            found = found * pooled.std(0)[:, None] + pooled.mean(0)[:, None]
        expected = torch.tensor([[0.0, 11.0], [0.5, 1.0], [-2.0, 2.0]]).double()
        torch.testing.assert_close(found, expected)

    @pytest.mark.parametrize(
        ("draw", "said"),
        [
            (
                lambda: plots.posterior.forest(torch.ones(5, 2), torch.ones(2, 5, 3), ["a", "b"]),
                r"got \(5, 2\), \(2, 5, 3\)",
            ),
            (
                lambda: plots.posterior.traces(torch.ones(5, 2), ["a", "b"]),
                r"MCMC \(chains, draws, K\)",
            ),
            (
                lambda: plots.posterior.contours(
                    torch.randn(5, 2), torch.randn(2, 5, 2), "ab", (1, 1)
                ),
                r"got \(1, 1\)",
            ),
        ],
    )
    def test_bad_arrays(self, draw: Callable[[], Figure], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            draw()
