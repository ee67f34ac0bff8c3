"""Labels that a guide infers: q(y | x), and how often its likeliest label is the right one."""

from __future__ import annotations

__all__ = ["accuracy", "label_probabilities"]

import torch
from torch import Tensor

from ppl_gen.arguments import expect_data, traced
from ppl_gen.contexts import evaluating, forked, guide_of
from ppl_gen.counts import expect_at_least
from ppl_gen.inference.estimate import Share
from ppl_gen.protocols import Guide, Program
from ppl_gen.sites import latent_sites

_AT_ONCE = 1000  # data whose labels are inferred at once


def label_probabilities(
    program: Program,
    x: Tensor,
    *,
    guide: Guide | None = None,
    draws: int = 1,
    seed: int | None = None,
    chunk: int = _AT_ONCE,
) -> Tensor:
    """q(y = k | x) of each label, (N, K).

    Where the guide draws codes of the data first, as that of `StackedVAE` does, this is the mean of
    q(y = k | code) over draws of the code.

    Args:
        program: A program whose guide samples the label at the site "y", as `SemiSupervisedVAE`.
        x: Data of shape (N, *shape), whose labels are not told.
        guide: The guide; `program.guide` if left out.
        draws: How many draws of the guide are averaged; one is enough where it draws labels first.
        seed: Of these draws; the global generator's state if left out, which is left as it was.
        chunk: How many data are looked at at once.

    Raises:
        ValueError: If the guide samples no labels at a site "y", or program and data do not fit
            each other.

    Examples:
        >>> program = models.ss_vae((4,), latent_dim=2, classes=3, hidden=[8])
        >>> label_probabilities(program, torch.randn(5, 4)).sum(-1)
        tensor([1.0000, 1.0000, 1.0000, 1.0000, 1.0000])
    """
    expect_at_least(1, chunk=chunk, draws=draws)
    guide = guide_of(program, guide)
    expect_data(program, (x,))
    parts = []
    with forked(x.device, seed), evaluating(program, guide):
        for some in x.split(chunk):
            by_draw = [_drawn_probabilities(guide, some) for _ in range(draws)]
            parts.append(torch.stack(by_draw).mean(0))
    return torch.cat(parts)


def _drawn_probabilities(guide: Guide, x: Tensor) -> Tensor:
    """q(y = k | x, what the guide has drawn before), (N, K)."""
    sites = latent_sites(traced(guide, (x,), "guide"))
    labels = sites.get("y", {}).get("fn")
    if not hasattr(labels, "probs") or labels.event_shape:
        raise ValueError(
            "expected a guide that samples labels at a site 'y', a Categorical, got the sites "
            f"{sorted(sites)}; take ppl_gen.models.ss_vae"
        )
    probs: Tensor = labels.probs
    return probs


def accuracy(
    program: Program,
    x: Tensor,
    y: Tensor,
    *,
    guide: Guide | None = None,
    draws: int = 1,
    seed: int | None = None,
    chunk: int = _AT_ONCE,
) -> Share:
    """The share of data whose likeliest label, argmaxₖ q(y = k | x), is y.

    Args:
        program: A program whose guide samples the label at the site "y", as `SemiSupervisedVAE`.
        x: Data of shape (N, *shape).
        y: Their labels (N,), −1 where missing: those data are left out.
        guide: The guide; `program.guide` if left out.
        draws: How many draws of the guide are averaged, as `label_probabilities` does.
        seed: Of these draws.
        chunk: How many data are looked at at once.

    Returns:
        The share, with the standard error of counting.

    Raises:
        ValueError: If no label is known, the guide samples none at a site "y", or program and data
            do not fit each other.

    Examples:
        >>> program = models.ss_vae((4,), latent_dim=2, classes=3, hidden=[8])
        >>> share = accuracy(program, torch.randn(30, 4), torch.arange(30) % 3)
        >>> share.count, 0 <= share.value.item() <= 1
        (30, True)
    """
    if y.shape != x.shape[:1]:
        raise ValueError(f"expected a label for each of {len(x)} data, got {tuple(y.shape)}")
    known = y >= 0
    if not bool(known.any()):
        raise ValueError(
            f"expected some labels to compare with, got {len(y)} that are missing (−1); give data "
            "whose labels are known"
        )
    probabilities = label_probabilities(
        program, x[known], guide=guide, draws=draws, seed=seed, chunk=chunk
    )
    return Share.of(probabilities.argmax(-1) == y[known])
