"""The library's remedies as the command says them."""

from __future__ import annotations

import warnings

import pytest
import torch

from ppl_gen.app.wording import in_options
from ppl_gen.data.splits import Split
from ppl_gen.inference import log_evidence
from ppl_gen.inference.mcmc.convergence import warn_unless_converged
from ppl_gen.inference.mcmc.draws import Draws
from ppl_gen.models import vae


def _draws() -> Draws:
    """All of them divergent."""
    some = torch.randn(2, 10, generator=torch.Generator().manual_seed(0))
    return Draws(
        samples={"z": some},
        log_density=some,
        divergent=torch.ones(2, 10, dtype=torch.bool),
        acceptance=torch.ones(2, 10),
        seconds=1.0,
        sampler="hmc",
    )


def test_divergences_name_no_keyword() -> None:
    said = in_options(str(_draws().verdict))
    assert "--warmup" in said
    assert "target_accept" not in said


def test_no_more_does_the_warning() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_unless_converged(_draws(), 1)
    said = in_options(str(caught[0].message))
    assert "--warmup" in said
    assert "=" not in said


def test_pixels_outside_of_a_support() -> None:
    for value, option in ((0.5, "--binarize threshold"), (-1.0, "--binarize threshold")):
        with pytest.raises(ValueError, match="support of Bernoulli") as raised:
            log_evidence(vae((1, 2, 2), 1), None, torch.full((3, 1, 2, 2), value), particles=2)
        said = in_options(str(raised.value))
        assert option in said
        assert "--likelihood continuous-bernoulli, gaussian or laplace" in said


def test_values_that_cannot_be_binarised() -> None:
    with pytest.raises(ValueError, match="to binarise") as raised:
        Split(torch.full((3, 1, 2, 2), 2.0), binarize="threshold")
    assert "--binarize none with --likelihood gaussian" in in_options(str(raised.value))
