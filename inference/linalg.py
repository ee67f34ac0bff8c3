"""Decompositions that fail for one chain must not stop the others: they give NaN instead of raising."""

from __future__ import annotations

__all__ = ["REPLACEMENTS"]

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def _or_nan(attempt: Callable[..., Any]) -> Callable[..., Tensor]:
    def replacement(*matrices: Tensor, **options: Any) -> Tensor:
        result, info = attempt(*matrices, **options)
        failed = (info != 0).reshape(info.shape + (1,) * (result.dim() - info.dim()))
        return torch.where(failed, torch.nan, result)

    return replacement


# By their names in torch.linalg. A chain whose matrix is not positive definite has an energy of NaN, and counts as divergent.
REPLACEMENTS: dict[str, Callable[..., Tensor]] = {
    "cholesky": _or_nan(torch.linalg.cholesky_ex),
    "inv": _or_nan(torch.linalg.inv_ex),
    "solve": _or_nan(torch.linalg.solve_ex),
}
