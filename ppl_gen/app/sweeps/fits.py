"""A VAE fitted as the third lecture does: cross entropy on grey pixels, closed KL, RMSprop, L2."""

from __future__ import annotations

__all__ = ["CrossEntropy", "FittedVAE", "fit_vae", "lecture_settings", "terms_on"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ppl_gen.app.sweeps.numbers import Number
from ppl_gen.app.sweeps.preset import Scope
from ppl_gen.data import Split
from ppl_gen.inference import AnalyticELBO, Patience, Record, Validation, fit, svi_step
from ppl_gen.models import VAE, vae
from ppl_gen.protocols import Conditional

RATE = 1e-3
MEMORY = 0.9  # ρ of RMSprop
PENALTY = 1e-4  # times the sum of squares of all weights, in nats per datum
_LOOK_EPOCHS = 40
_TEST_DRAWS = 10  # of the latents per datum


class Grey(dist.Bernoulli):
    """x log σ(η) + (1 − x) log σ(−η) for x in [0, 1]: minus a cross entropy, and no log density."""

    support = constraints.unit_interval
    has_enumerate_support = False

    def log_prob(self, value: Tensor) -> Tensor:
        """Minus the cross entropy of each value."""
        logits, value = torch.broadcast_tensors(self.logits, value)
        return -binary_cross_entropy_with_logits(logits, value, reduction="none")


class CrossEntropy(nn.Module):
    """The lectures' reconstruction term on grey pixels, in the place of a likelihood.

    Its numbers are no log densities: they may be held beside those of the lectures alone.
    """

    def forward(self, logits: Tensor) -> Any:
        return Grey(logits=logits, validate_args=False)


def lecture_settings(scope: Scope, epochs: int) -> dict[str, Any]:
    """Width of the hidden layer, epochs, data per step and learning rate, for `fit_vae`.

    Args:
        scope: What a preset is asked for; on digits the network is smaller and the rate higher.
        epochs: Of the lecture; at most 40 on digits.
    """
    if scope.is_look:
        looked = scope.count(min(epochs, _LOOK_EPOCHS), least=2)
        return {"hidden": 64, "epochs": looked, "batch_size": 50, "rate": 3 * RATE}
    return {"hidden": 256, "epochs": scope.count(epochs, least=2), "batch_size": 100, "rate": RATE}


@dataclass(frozen=True, kw_only=True)
class FittedVAE:
    """A VAE with the weights that were kept.

    Attributes:
        program: The VAE.
        records: One to an epoch; with both terms on data held out where there were some.
        best: The epoch whose weights it has.
    """

    program: VAE
    records: Sequence[Record]
    best: int

    @property
    def penalty(self) -> float:
        """10⁻⁴ Σ w² over all weights, which the lecture's loss includes."""
        total = 0.0
        for weight in _weights(self.program):
            total += float(weight.detach().square().sum())
        return PENALTY * total


def fit_vae(
    train: Split,
    held_out: Split | None,
    *,
    latent_dim: int,
    hidden: int,
    epochs: int,
    batch_size: int = 100,
    rate: float = RATE,
    patience: int | None = None,
    beta: float = 1.0,
    beside: Split | None = None,
    likelihood: Conditional | None = None,
    objective: AnalyticELBO | None = None,
) -> FittedVAE:
    """A tanh network D – hidden – latent – hidden – D, by one draw of the latents per datum.

    Args:
        train: Grey data.
        held_out: Data on which both terms are measured after each epoch; None for none.
        latent_dim: Dimension of z.
        hidden: Width of the one layer to either side.
        epochs: Passes over the data, at most.
        batch_size: Data per step.
        rate: Learning rate.
        patience: Stop after so many epochs without a better bound of `held_out`, and keep the best
            epoch's weights; None runs all epochs and keeps the last one's.
        beta: Weight of the KL.
        beside: Training data on which both terms are measured too; None for none.
        likelihood: The lectures' cross entropy if left out.
        objective: The ELBO with its KL in closed form if left out.
    """
    shape = train.x.shape[1:]
    program = vae(shape, latent_dim, hidden=(hidden,), likelihood=likelihood or CrossEntropy())
    batches = train.batches(min(batch_size, len(train)))
    optimizer = torch.optim.RMSprop(_groups(program), rate, MEMORY)
    step = svi_step(program, optimizer, objective or AnalyticELBO(), beta=beta, engine="fx")
    validation = None
    if held_out is not None:
        measured = None
        if beside is not None:
            measured = (beside.x,)
        validation = Validation(program, (held_out.x,), measured)
    stop = None
    if patience is not None:
        stop = Patience(patience)
    records = fit(step, batches, epochs, progress=False, validation=validation, stop=stop)
    best = len(records)
    if stop is not None and stop.best is not None:
        best = stop.best
    return FittedVAE(program=program, records=records, best=best)


def terms_on(program: VAE, data: Split, seed: int = 0) -> Mapping[str, Number]:
    """The loss −ELBO and its two terms, averages over data with their standard errors, in nats.

    Args:
        program: A VAE.
        data: Test data.
        seed: Of the draws of the latents, ten per datum.
    """
    measured = Validation(program, (data.x,), particles=_TEST_DRAWS, seed=seed)()
    signs = {"loss": ("elbo", -1), "cross entropy": ("log_likelihood", -1), "KL": ("kl", 1)}
    found = {}
    for name, (term, sign) in signs.items():
        value = sign * measured[f"validation_{term}"]
        found[name] = Number(value, measured[f"validation_{term}_error"])
    return found


def _groups(program: VAE) -> list[dict[str, Any]]:
    """Weights with the penalty's gradient, 2 · 10⁻⁴ w, and biases without."""
    weights = _weights(program)
    own = {id(weight) for weight in weights}
    others = [parameter for parameter in program.parameters() if id(parameter) not in own]
    return [
        {"params": weights, "weight_decay": 2 * PENALTY},
        {"params": others, "weight_decay": 0.0},
    ]


def _weights(program: VAE) -> list[nn.Parameter]:
    return [parameter for parameter in program.parameters() if parameter.dim() > 1]
