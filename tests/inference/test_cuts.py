"""Programs whose density depends on how data are cut are refused; masks and labels as context are
cut with the data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, nn

from ppl_gen.guides import automatic
from ppl_gen.inference import (
    ais,
    bdmc,
    collapse,
    compare,
    elbo,
    gaps,
    hmc,
    log_evidence,
    nuts,
    sbc,
    svi_step,
)
from ppl_gen.inference.cuts import expect_same_when_cut
from ppl_gen.testing import check_program

N, D = 24, 3
REFUSED = "depends on how data are cut"
BRIEF = {"chains": 2, "warmup": 5, "draws": 5, "engine": "eager", "seed": 0}
ANNEALED = {"chains": 2, "temperatures": 3, "engine": "eager", "seed": 0}


class Masked(nn.Module):
    """x | z ~ N(Wz, 1) at the entries of a mask that belongs to each datum.

    Args:
        mask: Closed over, from the model's batch to its mask; None takes it as context.
    """

    def __init__(self, mask: Callable[[int], Tensor] | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 2 * D).reshape(D, 2))
        self.mask = mask

    def model(self, x: Tensor | None = None, *context: Tensor, n: int = 1) -> Tensor:
        if x is not None:
            n = x.shape[0]
        with pyro.plate("data", n):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            x_given_z = dist.Normal(z @ self.weight.T, 1.0)
            if self.mask is not None:
                x_given_z = x_given_z.mask(self.mask(n))
            for c in context:
                x_given_z = self._given(x_given_z, c)
            return pyro.sample("x", x_given_z.to_event(1), obs=x)

    def guide(self, x: Tensor, *context: Tensor) -> Tensor:
        with pyro.plate("data", x.shape[0]):
            return pyro.sample("z", dist.Normal(0.3 * x[:, :2], 1.0).to_event(1))

    @staticmethod
    def _given(x_given_z: Any, c: Tensor) -> Any:
        """A mask of each entry, or one of each datum, or a label that moves the mean."""
        if c.dtype != torch.bool:
            return dist.Normal(x_given_z.mean + c[:, None], 1.0)
        if c.dim() == 1:
            c = c[:, None]
        return x_given_z.mask(c)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(N, D)


@pytest.fixture
def mask() -> Tensor:
    return torch.rand(N, D) > 0.5


EVALUATORS: dict[str, Callable[..., Any]] = {
    "log_evidence": lambda p, x, *c: log_evidence(p, None, x, *c, particles=30, seed=0),
    "elbo": lambda p, x, *c: elbo(p, None, x, *c, particles=30, seed=0),
    "ais": lambda p, x, *c: ais(p, x, *c, **ANNEALED),
    "ais from the guide": lambda p, x, *c: ais(p, x, *c, guide=p.guide, **ANNEALED),
    "bdmc": lambda p, x, *c: bdmc(p, len(x), *c, **ANNEALED),
    "gaps": lambda p, x, *c: gaps(
        p, None, x, *c, evidence=log_evidence(p, None, x, *c), steps=1, particles=5, engine="eager"
    ),
    "collapse": lambda p, x, *c: collapse(p, None, x, *c, particles=2, seed=0),
    "sbc": lambda p, x, *c: sbc(p, len(x), *c, draws=9, seed=0),
    "hmc in chunks": lambda p, x, *c: hmc(p.model, x, *c, local=True, chunk=10, **BRIEF),
}
ALSO_WHOLE: dict[str, Callable[..., Any]] = {
    "hmc": lambda p, x, *c: hmc(p.model, x, *c, **BRIEF),
    "nuts": lambda p, x, *c: nuts(p.model, x, *c, chains=1, warmup=2, draws=2, seed=0),
    "compare": lambda p, x, *c: compare(p, None, x, *c, guide_draws=20, **BRIEF),
    "svi_step": lambda p, x, *c: svi_step(p, torch.optim.Adam(p.parameters()), engine="fx")(x, *c),
    "check_program": lambda p, x, *c: check_program(p, x, *c),
}
# Every evaluator is given a mask of each datum, whose type has no order; some the others as well.
CONTEXTS: dict[str, Callable[[], Tensor]] = {
    "a mask of each entry": lambda: torch.rand(N, D) > 0.3,
    "a label": lambda: torch.randint(0, 3, (N,)),
    "a byte": lambda: torch.randint(0, 3, (N,), dtype=torch.uint8),
}
SOME = ("log_evidence", "collapse", "hmc", "svi_step")


@pytest.mark.parametrize("name", EVALUATORS)
def test_a_row_for_each_datum_closed_over_is_refused(name: str, x: Tensor, mask: Tensor) -> None:
    with pytest.raises(ValueError, match=f"{REFUSED}.*pass that tensor as context"):
        EVALUATORS[name](Masked(lambda n: mask[:n]), x)


@pytest.mark.parametrize(
    ("size", "uncut"), [(N, True), (N - 4, False), (5, False)], ids=["uncut", "short", "shorter"]
)
def test_a_mask_of_another_length_is_refused(size: int, uncut: bool, x: Tensor) -> None:
    """Not sliced, it broadcasts or fails; sliced, it is too short for all data at once."""
    mask = torch.rand(size, D) > 0.5
    program = Masked(lambda n: mask if uncut else mask[:n])
    with pytest.raises(ValueError, match=REFUSED):
        log_evidence(program, None, x, particles=10, chunk=30)


def test_the_law_sees_it_too(x: Tensor, mask: Tensor) -> None:
    mask[0] = ~mask[-1]
    with pytest.raises(AssertionError, match="alone and among others"):
        check_program(Masked(lambda n: mask[:n]), x)


def test_a_guide_that_closes_over_rows_is_refused(x: Tensor) -> None:
    program = Masked()
    scales = torch.rand(N, 2) + 0.5

    def guide(x: Tensor) -> Tensor:
        with pyro.plate("data", x.shape[0]):
            return pyro.sample("z", dist.Normal(x[:, :2], scales[: len(x)]).to_event(1))

    with pytest.raises(ValueError, match=REFUSED):
        elbo(program, guide, x)


def test_a_guide_of_all_data_is_never_cut(x: Tensor, mask: Tensor) -> None:
    program = Masked(lambda n: mask[:n])
    guide = automatic(AutoNormal, program.model, x)
    whole = log_evidence(program, guide, x, particles=20, seed=0)
    pieces = log_evidence(program, guide, x, particles=20, chunk=N, seed=0)
    assert whole.value.shape == pieces.value.shape == (N,)


def test_batch_normalisation_in_evaluation_mode_passes(x: Tensor) -> None:
    program = Masked()
    norm = nn.BatchNorm1d(D)
    norm.running_mean.uniform_()

    def guide(x: Tensor) -> Tensor:
        with pyro.plate("data", x.shape[0]):
            return pyro.sample("z", dist.Normal(norm(x)[:, :2], 1.0).to_event(1))

    kept = norm.running_mean.clone()
    elbo(program, guide, x)
    assert torch.equal(norm.running_mean, kept)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*EVALUATORS, *ALSO_WHOLE])
def test_a_mask_of_each_datum_as_context(name: str, x: Tensor) -> None:
    (EVALUATORS | ALSO_WHOLE)[name](Masked(), x, torch.rand(N) > 0.3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", CONTEXTS)
@pytest.mark.parametrize("name", SOME)
def test_context_of_other_types(name: str, kind: str, x: Tensor) -> None:
    (EVALUATORS | ALSO_WHOLE)[name](Masked(), x, CONTEXTS[kind]())


def test_a_mask_as_context_gives_the_same_however_data_are_cut(x: Tensor, mask: Tensor) -> None:
    """log p(x) under a mask is that of the entries that are seen, N(0, WWᵀ + I)."""
    program = Masked()
    covariance = program.weight @ program.weight.T + torch.eye(D)
    exact = []
    for datum, seen in zip(x, mask, strict=True):
        of_seen = covariance[seen][:, seen]
        marginal = dist.MultivariateNormal(torch.zeros(len(of_seen)), of_seen)
        exact.append(marginal.log_prob(datum[seen]) if len(of_seen) else torch.zeros(()))
    for chunk in (4000, 50_000):
        found = log_evidence(program, None, x, mask, particles=2000, chunk=chunk, seed=0)
        off = (found.value - torch.stack(exact)).abs()
        assert bool((off < 4.5 * found.standard_error + found.standard_error.square()).all())


def test_the_generator_is_left(x: Tensor) -> None:
    state = torch.get_rng_state()
    log_evidence(Masked(), None, x, particles=2, seed=0)
    assert torch.equal(torch.get_rng_state(), state)


class Sensitive(Masked):
    """A guide far out, where the rounding of data moves its density as much as their number does.

    Args:
        share: What a datum more in the batch adds to the mean, as a share of it.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def guide(self, x: Tensor, *context: Tensor) -> Tensor:
        mean = 1e4 * x[:, :2] * (1 + self.share * x.shape[0])
        with pyro.plate("data", x.shape[0]):
            return pyro.sample("z", dist.Normal(mean, 1.0).to_event(1))


def test_what_rounding_moves_as_far_is_no_dependence_on_cuts(x: Tensor) -> None:
    expect_same_when_cut(Masked().model, Sensitive(torch.finfo(x.dtype).eps).guide, (x,))
    with pytest.raises(ValueError, match=REFUSED):
        expect_same_when_cut(Masked().model, Sensitive(1e-4).guide, (x,))
