"""Distances between two samples."""

from __future__ import annotations

__all__ = ["frechet"]

import torch
from torch import Tensor

from ppl_gen.inference import frechet_distance
from speed.contest import Contest, Job, installed
from speed.scale import Scale


def _by_fidelity(x: Tensor, y: Tensor) -> Job:
    installed("torch_fidelity")
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    def run() -> None:
        statistics = [fid_features_to_statistics(sample) for sample in (x, y)]
        fid_statistics_to_metric(*statistics, verbose=False)

    return Job(run=run)


def frechet(scale: Scale) -> Contest:
    """The Fréchet distance of features; the library's has a standard error."""
    count = scale.count(5000, least=200)
    x, y = torch.randn(count, 64), torch.randn(count, 64) + 0.1
    ways = {
        "ppl-gen": lambda: Job(run=lambda: frechet_distance(x, y)),
        "torch-fidelity": lambda: _by_fidelity(x, y),
    }
    return Contest(
        what=f"{count} × 64 features of each", unit="call", ways=ways, rounds=min(scale.rounds, 5)
    )
