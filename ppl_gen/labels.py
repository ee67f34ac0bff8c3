"""Labels that are known of some data: one that is missing is −1, or has a distribution."""

from __future__ import annotations

__all__ = ["Revealed", "few_labels", "revealed"]

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import is_validation_enabled
from torch import Tensor

from ppl_gen.arguments import whole
from ppl_gen.contexts import expect_seed
from ppl_gen.counts import expect_at_least
from ppl_gen.nn.condition import check_labels

# A log probability of what cannot be: finite, so that the difference of two is 0 and not NaN.
_IMPOSSIBLE = -1e30


class Revealed(dist.Categorical):
    """p(k | y): softmax(ℓ)ₖ where the label y is missing, all mass at k = y where it is known.

    Attributes:
        log_revealed: log softmax(ℓ) at the label, (*batch,), in nats; 0 where it is missing.

    Args:
        logits: ℓ, of shape (*batch, K).
        y: Labels in 0, …, K − 1, or −1 where missing, broadcast with (*batch,).
    """

    log_revealed: Tensor

    def __init__(self, logits: Tensor, y: Tensor) -> None:
        log_probs = logits.log_softmax(-1)
        y = y[..., None]
        is_label = y == torch.arange(logits.shape[-1], device=logits.device)
        self.log_revealed = torch.where(is_label, log_probs, 0.0).sum(-1)
        point = torch.where(is_label, 0.0, _IMPOSSIBLE).to(log_probs.dtype)
        super().__init__(logits=torch.where(y < 0, log_probs, point), validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Revealed:
        new = self._get_checked_instance(Revealed, _instance)
        new.log_revealed = self.log_revealed.expand(batch_shape)
        return super().expand(batch_shape, _instance=new)


def revealed(d: dist.Categorical, y: Tensor | None) -> dist.Categorical:
    """The distribution of labels, given those that are known.

    Args:
        d: Of labels without knowledge of any, batch shape () or (N,).
        y: Labels (N,), −1 where missing; None where all are.

    Raises:
        ValueError: If a label is not in −1, …, K − 1, while validation is on.
    """
    if y is None:
        return d
    y = whole(y)
    if is_validation_enabled():
        check_labels(y, d.logits.shape[-1])
    return Revealed(d.logits, y)


def few_labels(y: Tensor, count: int, *, seed: int = 0) -> Tensor:
    """Labels of which `count` are kept, as many of each class as can be; the others are −1.

    Args:
        y: Labels (N,), −1 where missing.
        count: How many are kept, at least one of each class.
        seed: Says which; the global generator is left alone.

    Raises:
        ValueError: If no label is known, or `count` is below the number of classes or above that of
            the labels known.

    Examples:
        >>> few_labels(torch.tensor([0, 1, 0, 1, -1, 0]), 2).sort().values
        tensor([-1, -1, -1, -1,  0,  1])
    """
    expect_at_least(1, **{"a number of labels": count})
    expect_seed(seed)
    y = whole(y)
    classes = y[y >= 0].unique()
    known = int((y >= 0).sum())
    if not max(len(classes), 1) <= count <= known:
        raise ValueError(
            f"expected a number of labels from {len(classes)}, one of each class, to {known}, as "
            f"many as are known, got {count}"
        )
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    shuffled = y.cpu()[order]
    # The first of every class, then the second of every class, and so on.
    turn = torch.full_like(shuffled, len(y))
    for label in classes.tolist():
        is_label = shuffled == label
        turn[is_label] = torch.arange(int(is_label.sum()))
    kept = order[turn.argsort(stable=True)[:count]].to(y.device)
    few = torch.full_like(y, -1)
    few[kept] = y[kept]
    return few
