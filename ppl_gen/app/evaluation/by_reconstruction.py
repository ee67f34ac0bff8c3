"""An autoencoder judged by its error of reconstruction, beside that of principal components."""

from __future__ import annotations

__all__ = ["measure_error"]

import math

import torch
from rich.table import Table
from torch import Tensor

from ppl_gen.app.evaluation.findings import Judged, numbers
from ppl_gen.app.evaluation.subject import Subject
from ppl_gen.app.ingredients.autoencoders import corruption_of, net_of
from ppl_gen.contexts import evaluating, forked
from ppl_gen.inference import Estimate, squared_error
from ppl_gen.models import Autoencoder, pca

_AT_ONCE = 1000  # data that are reconstructed in one call


def measure_error(subject: Subject, judged: Judged) -> None:
    """‖x̂ − x‖² of test data, beside that of as many principal components of the training data."""
    fitted = subject.fitted
    config = fitted.config
    x = subject.x
    net = net_of(fitted.program)
    rows = {config.model: _errors(net, x, x)}
    if "corruption" in config:
        with forked(fitted.device, subject.asked.seed):
            seen = corruption_of(config)(x)
        rows[f"{config.model}, of corrupted data"] = _errors(net, seen, x)
    size = math.prod(x.shape[1:])
    width = config.latent_dim
    if "epochs" in config and width <= min(size, len(fitted.data.train)):
        train = fitted.data.train.fixed(config.seed).x
        with evaluating():
            linear = pca(train, width)
        components = f"{width} principal components"
        rows[components] = _errors(linear, x, x)
        rows[f"{config.model} less these"] = rows[config.model] - rows[components]
    table = Table("squared error", "per datum", "per value")
    entry = {}
    for name, errors in rows.items():
        found = _average(errors)
        per_value = found / size
        table.add_row(name, _cell(found), _cell(per_value))
        entry[name] = {**numbers(found), "per_value": numbers(per_value)}
    table.title = f"code of {width}, average ± standard error over data"
    judged.table(table)
    judged.record("reconstruction", {"rows": entry, "width": width, "data": len(x)})


def _errors(net: Autoencoder, seen: Tensor, x: Tensor) -> Tensor:
    """‖x̂ − x‖² of each datum, (N,), x̂ being made of what is seen."""
    parts = []
    with evaluating(net):
        for rows, true in zip(seen.split(_AT_ONCE), x.split(_AT_ONCE), strict=True):
            parts.append(squared_error(net(rows), true).double())
    return torch.cat(parts)


def _average(values: Tensor) -> Estimate:
    """The average over data, with the standard error sd / √N; NaN for one datum."""
    error = values.new_tensor(math.nan)
    if len(values) > 1:
        error = values.std() / math.sqrt(len(values))
    return Estimate(values.mean(), error)


def _cell(estimate: Estimate) -> str:
    return f"{float(estimate.value):.5g} ± {float(estimate.standard_error):.2g}"
