"""A VAE and a CVAE as the third lecture has them side by side: two latents, 500 hidden, Adam."""

from __future__ import annotations

__all__ = [
    "CONDITIONAL",
    "KINDS",
    "UNCONDITIONAL",
    "Shuffled",
    "conditional_settings",
    "fit_kind",
    "fit_steps",
    "given",
    "loss_terms",
    "made",
]

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ppl_gen.app.sweeps.fits import CrossEntropy
from ppl_gen.app.sweeps.numbers import Number
from ppl_gen.app.sweeps.preset import Scope
from ppl_gen.data import Split
from ppl_gen.inference import AnalyticELBO, Validation, fit, svi_step
from ppl_gen.models import cvae, vae
from ppl_gen.priors import StandardNormal

UNCONDITIONAL = "VAE"
CONDITIONAL = "CVAE"
KINDS = (UNCONDITIONAL, CONDITIONAL)
LATENTS = 2
Change = Callable[..., tuple[Tensor, ...]]
_DRAWS = 10  # of the latents per test datum


def conditional_settings(scope: Scope) -> dict[str, Any]:
    """Width of the hidden layer, data per step and learning rate; a smaller network on digits.

    Args:
        scope: What a preset is asked for.
    """
    if scope.is_look:
        return {"hidden": 64, "batch_size": 50, "rate": 3e-3}
    return {"hidden": 500, "batch_size": 128, "rate": 1e-3}


def made(kind: str, shape: Sequence[int], hidden: int) -> Any:
    """A VAE, or a CVAE of ten labels, of two latents under a standard normal prior.

    Args:
        kind: One of `KINDS`.
        shape: Of a datum.
        hidden: Width of the one hidden layer to either side.
    """
    if kind == UNCONDITIONAL:
        return vae(shape, LATENTS, hidden=(hidden,), likelihood=CrossEntropy())
    prior = StandardNormal(LATENTS)
    return cvae(
        shape, LATENTS, classes=10, hidden=(hidden,), likelihood=CrossEntropy(), prior=prior
    )


def given(kind: str, split: Split) -> tuple[Tensor, ...]:
    """x, and the labels beside it where the program takes them.

    Args:
        kind: One of `KINDS`.
        split: Data with labels.
    """
    if kind == UNCONDITIONAL:
        return (split.x,)
    assert split.y is not None
    return (split.x, split.y)


def fit_kind(
    kind: str, train: Split, *, hidden: int, epochs: int, batch_size: int, rate: float
) -> Any:
    """A fitted VAE or CVAE.

    Args:
        kind: One of `KINDS`.
        train: Data with labels.
        hidden: Width of the one hidden layer to either side.
        epochs: Passes over the data.
        batch_size: Data per step.
        rate: Learning rate of Adam.
    """
    program = made(kind, train.x.shape[1:], hidden)
    fit_steps(program, Shuffled(given(kind, train), batch_size), epochs, rate)
    return program


def fit_steps(program: nn.Module, batches: Any, epochs: int, rate: float) -> None:
    """Ascends the bound with its closed KL.

    Args:
        program: What is fitted.
        batches: A re-iterable of tuples: x, and what goes with it.
        epochs: Passes over the data.
        rate: Learning rate of Adam.
    """
    step = svi_step(
        program, torch.optim.Adam(program.parameters(), rate), AnalyticELBO(), engine="fx"
    )
    fit(step, batches, epochs, progress=False)


def loss_terms(program: Any, data: Sequence[Tensor]) -> Mapping[str, Number]:
    """−ELBO and its two terms on test data, averages with their standard errors, in nats.

    Args:
        program: A fitted one.
        data: x and what goes with it.
    """
    measured = Validation(program, tuple(data), particles=_DRAWS, seed=0)()
    found = {}
    for name, (term, sign) in _TERMS.items():
        value = sign * measured[f"validation_{term}"]
        found[name] = Number(value, measured[f"validation_{term}_error"])
    return found


_TERMS = {"loss": ("elbo", -1), "cross entropy": ("log_likelihood", -1), "KL": ("kl", 1)}


class Shuffled:
    """Batches of some tensors in a new order at each pass.

    Args:
        data: x and what goes with it, each of length N.
        size: Data of a batch; all where there are fewer.
        change: What is made of a batch when it is presented; None leaves it as it is.
    """

    def __init__(self, data: Sequence[Tensor], size: int, change: Change | None = None) -> None:
        self._data = data
        self._size = min(size, len(data[0]))
        self._change = change

    def __len__(self) -> int:
        return -(-len(self._data[0]) // self._size)

    def __iter__(self) -> Any:
        order = torch.randperm(len(self._data[0]))
        for rows in order.split(self._size):
            batch = tuple([t[rows] for t in self._data])
            if self._change is not None:
                batch = self._change(*batch)
            yield batch
