"""The table of Pyro's distributions: classes × roles × columns, each cell tried and judged.

`python tests/distribution_table.py` prints the counts, and the cells that are neither right nor
refused; with names, `python tests/distribution_table.py Normal Beta`, of these classes alone.
"""

from __future__ import annotations

import math
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from distributions import ROWS, SCORED, Maker
from pyro.distributions.transforms import biject_to
from torch import Tensor, nn

from ppl_gen.contexts import seeded
from ppl_gen.guides import from_prior
from ppl_gen.inference import NotFinite, ais, bdmc, compare, elbo, hmc, log_evidence, sbc, svi_step
from ppl_gen.inference.estimate import Estimate
from ppl_gen.program import per_datum, register, simulate
from ppl_gen.testing import check_program

N = 3
CPU = torch.device("cpu")
_DRAWS = 40_000  # of the prior under test, for the answers that estimators are held against
_QUANTILES = 4_000  # of a Gaussian prior, in their place


class AsLikelihood(nn.Module):
    """z ~ N(0, 1), x ~ F(w z)."""

    def __init__(self, make: Maker) -> None:
        super().__init__()
        self.make = make
        self.weight = nn.Parameter(torch.tensor(0.7))
        self.loc = nn.Parameter(torch.tensor(0.1))
        self.log_scale = nn.Parameter(torch.tensor(0.0))

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        register(self)
        with pyro.plate("data", n if x is None else x.shape[0]):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            return pyro.sample("x", per_datum(self.make(self.weight * z), z.dim()), obs=x)

    def guide(self, x: Tensor) -> Tensor:
        register(self)
        with pyro.plate("data", x.shape[0]):
            return pyro.sample("z", dist.Normal(self.loc, self.log_scale.exp()))

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z), (K, N), of latents (K, N), without the library."""
        try:
            log_prob = self.make(self.weight * z).log_prob(x)
        except IndexError:  # scores as many values as it has parameters
            log_prob = torch.stack([self.make(self.weight * row).log_prob(x) for row in z])
        return log_prob.reshape(*z.shape, -1).sum(-1)

    def draws(self) -> Tensor:
        """z of the prior at evenly spaced quantiles, (K, N)."""
        quantiles = (torch.arange(_QUANTILES) + 0.5) / _QUANTILES
        return dist.Normal(0.0, 1.0).icdf(quantiles)[:, None].expand(_QUANTILES, N)


class _OnLatents(nn.Module):
    """z ~ prior, x ~ N(Σᵢ zᵢ cᵢ, 1) with fixed cᵢ.

    Args:
        make: The class under test.
        is_prior: Whether it gives the prior; else the guide.
    """

    def __init__(self, make: Maker, *, is_prior: bool) -> None:
        super().__init__()
        self.make = make
        self.is_prior = is_prior
        self.own = nn.Parameter(torch.tensor(0.2))
        made = make(self.own.detach())
        self.free = None
        # Without a support, or a way there, or for counts: the class itself.
        with suppress(NotImplementedError):
            transform = biject_to(_proper(made))
            shape = transform.inverse_shape(made.event_shape)
            self.free = nn.ParameterList([torch.zeros(shape), torch.zeros(shape)])

    def other(self) -> Any:
        """A distribution on the same support: Gaussian on the whole line, or the same class."""
        if self.free is None:
            return self.make(0.5 * self.own)
        loc, log_scale = self.free
        made = self.make(self.own.detach())
        base = dist.Normal(loc, log_scale.exp()).to_event(loc.dim())
        return dist.TransformedDistribution(base, [biject_to(_proper(made))])

    def prior(self) -> Any:
        return self.make(self.own) if self.is_prior else self.other()

    def proposal(self) -> Any:
        return self.other() if self.is_prior else self.make(self.own)

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        register(self)
        prior = self.prior()
        with pyro.plate("data", n if x is None else x.shape[0]):
            z = pyro.sample("z", prior)
            return pyro.sample("x", self._likelihood(z, len(prior.event_shape)), obs=x)

    def guide(self, x: Tensor) -> Tensor:
        register(self)
        with pyro.plate("data", x.shape[0]):
            return pyro.sample("z", self.proposal())

    def _likelihood(self, z: Tensor, event_dim: int) -> Any:
        flat = z.reshape(*z.shape[: z.dim() - event_dim], -1).float()
        weights = torch.linspace(1.0, 0.3, flat.shape[-1])
        return dist.Normal(flat @ weights, 1.0)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z), (K, N), of latents (K, 1, *event), without the library."""
        return self._likelihood(z, z.dim() - 2).log_prob(x)

    def draws(self) -> Tensor:
        """Draws z of the prior, (K, 1, *event)."""
        with seeded(CPU, 5):
            return self.prior().expand((_DRAWS, 1)).sample()


def _proper(made: Any) -> Any:
    """The support of what is drawn, where a class names a larger one."""
    name = type(made).__name__
    if name in ("VonMises", "SineBivariateVonMises", "SineSkewed"):
        return dist.constraints.independent(
            dist.constraints.interval(-torch.pi, torch.pi), len(made.event_shape)
        )
    if name == "MixtureSameFamily":
        return made.component_distribution.support
    if name == "GeneralizedPareto":
        return dist.constraints.greater_than(0.0)
    if name == "TransformedDistribution":
        return dist.constraints.interval(-1.0, 1.0)
    return made.support


ROLES: dict[str, Callable[[Maker], Any]] = {
    "likelihood": AsLikelihood,
    "prior": partial(_OnLatents, is_prior=True),
    "guide": partial(_OnLatents, is_prior=False),
}


class Wrong(AssertionError):
    """A number that is not what it should be."""


@dataclass
class Case:
    """A class in a role."""

    name: str
    role: str

    def program(self) -> Any:
        """A new program, the same each time."""
        return ROLES[self.role](ROWS[self.name])

    @cached_property
    def x(self) -> Tensor:
        """Data that the likelihood can score: drawn, or given where it has no draws."""
        if self.role != "likelihood":
            return torch.tensor([0.3, -0.4, 1.0])
        if self.name in SCORED:
            return SCORED[self.name]
        with seeded(CPU, 3):
            return simulate(self.program(), N)

    @cached_property
    def log_likelihood(self) -> tuple[Tensor, Tensor]:
        """Latents of the prior, and log p(x | z) there (K, N)."""
        program = self.program()
        with torch.no_grad(), pyro.validation_enabled(False):
            z = program.draws()
            log_likelihood = program.log_likelihood(self.x, z)
        return z, log_likelihood.double()

    @property
    def evidence(self) -> tuple[Tensor, Tensor]:
        """log p(x) and its standard error, (N,), by averaging over the prior."""
        _, log_likelihood = self.log_likelihood
        count = len(log_likelihood)
        value = log_likelihood.logsumexp(0) - math.log(count)
        if self.role == "likelihood":  # by quadrature
            return value, torch.zeros_like(value)
        weights = log_likelihood.softmax(0)
        error = (weights.square().sum(0) - 1 / count).clamp(min=0).sqrt()
        return value, error

    def posterior_mean(self, x: Tensor, bounded: Callable[[Tensor], Tensor]) -> Tensor:
        """E[f(z) | x] of a bounded function of z."""
        z, log_likelihood = self.log_likelihood
        weights = log_likelihood.softmax(0)
        values = bounded(z).double().reshape(*z.shape[:2], -1)
        return (weights[..., None] * values).sum(0)


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise Wrong(message)


def _expect_near(what: str, estimate: Estimate, case: Case, below: float = 0.05) -> None:
    """The estimate is log p(x) within errors; it may be lower by `below`."""
    value, error = case.evidence
    _expect(estimate.value.shape == value.shape, f"{what} of shape {tuple(estimate.value.shape)}")
    total = (estimate.standard_error.double().square() + error.square()).sqrt()
    off = estimate.value.double() - value
    right = (off < 4 * total + 0.02) & (off > -4 * total - below)
    if estimate.k_hat is not None:  # where it is large, the estimate says itself that it is none
        right |= estimate.k_hat > 0.7
    _expect(bool(right.all()), f"{what} {estimate.value.tolist()} for {value.tolist()}")


def _svi(engine: str, case: Case) -> None:
    losses: dict[str, list[float]] = {}
    for by in dict.fromkeys(("eager", engine)):
        program = case.program()
        before = [p.detach().clone() for p in program.parameters()]
        optimizer = torch.optim.Adam(program.parameters(), 0.01)
        step = svi_step(program, optimizer, engine=by)
        with seeded(CPU, 1):
            losses[by] = [float(step(case.x)["elbo"]) for _ in range(3)]
        moved = [bool((p != b).any()) for p, b in zip(program.parameters(), before, strict=True)]
        _expect(any(moved), "no parameter moved")
    _expect(all(map(_is_number, losses[engine])), f"ELBO {losses[engine]}")
    pairs = zip(losses["eager"], losses[engine], strict=True)
    same = all(math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-4) for a, b in pairs)
    _expect(same, f"ELBO {losses}")


def _is_number(value: float) -> bool:
    return abs(value) < 1e6  # NaN is not


def _log_evidence(case: Case) -> None:
    _expect_near("log evidence", log_evidence(case.program(), None, case.x, particles=2000), case)


def _elbo(case: Case) -> None:
    bound = elbo(case.program(), None, case.x, particles=200)
    value, error = case.evidence
    own = bound.standard_error.double().nan_to_num(0.0)  # NaN for a bound of −∞
    total = (own.square() + error.square()).sqrt()
    over = bound.value.double() - value - 4 * total
    _expect(bool((over < 0.02).all()), f"ELBO {bound.value.tolist()} for {value.tolist()}")


def _ais(case: Case) -> None:
    found = ais(case.program(), case.x, chains=64, temperatures=40, leapfrogs=2)
    _expect_near("AIS", found, case, below=0.3)


def _bdmc(case: Case) -> None:
    found = bdmc(case.program(), N, chains=8, temperatures=40, leapfrogs=2)
    gap = found.gap
    _expect(bool(gap.value.isfinite().all()), f"gap {gap.value.tolist()}")
    least = -4 * gap.standard_error - 0.3
    _expect(bool((gap.value > least).all()), f"gap {gap.value.tolist()}")


def _hmc(case: Case) -> None:
    program = case.program()
    draws = hmc(program.model, case.x, local=True, chains=16, draws=60, warmup=100)
    z = draws.samples["z"]
    got = torch.tanh(z).double().mean((0, 1)).reshape(N, -1)
    expected = case.posterior_mean(case.x, torch.tanh)
    error = torch.tanh(z).double().mean(1).std(0).reshape(N, -1) / draws.chains**0.5
    right = (got - expected).abs() < 5 * error + 0.05
    _expect(bool(right.all()), f"E[tanh z | x] {got.tolist()} for {expected.tolist()}")


def _compare(case: Case) -> None:
    program = case.program()
    found = compare(program, None, case.x, draws=20, warmup=40, chains=8, guide_draws=1000)
    _expect(bool(str(found.verdict)), "no verdict")
    if "importance" in found.evidence and "heavy-tails" not in found.verdict.tags:
        estimate = found.evidence["importance"]
        value, error = case.evidence
        if len(estimate.value) == 1:
            value, error = value.sum()[None], error.norm()[None]
        total = (estimate.standard_error.double().square() + error.square()).sqrt()
        off = (estimate.value.double() - value).abs()
        _expect(
            bool((off < 4 * total + 0.1).all()),
            f"evidence {estimate.value.tolist()} for {value.tolist()}",
        )


def _sbc(case: Case) -> None:
    program = case.program()
    found = sbc(program, 60, guide=from_prior(program), draws=19, seed=2)
    # The prior's draws are ranked among the prior's: uniform whatever the likelihood.
    p_value = float(found.p_values["z"].min())
    _expect(p_value > 1e-4, f"p = {p_value:.2g} of the prior's ranks among its own")
    sbc(program, 20, draws=9, seed=2)


def _check_program(case: Case) -> None:
    check_program(case.program(), case.x.repeat((4,) + (1,) * (case.x.dim() - 1)))


COLUMNS: dict[str, Callable[[Case], None]] = {
    "svi_step, eager": partial(_svi, "eager"),
    "svi_step, fx": partial(_svi, "fx"),
    "svi_step, inductor": partial(_svi, "inductor"),
    "log_evidence": _log_evidence,
    "elbo": _elbo,
    "ais": _ais,
    "bdmc": _bdmc,
    "hmc": _hmc,
    "compare": _compare,
    "sbc": _sbc,
    "check_program": _check_program,
}
# A minute of compilation for each dozen cells: these stand for kinds.
COMPILED = (
    "Normal", "Categorical", "Dirichlet", "Poisson", "MultivariateNormal", "MixtureSameFamily",
    "TransformedDistribution", "VonMises",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """What came of a class in a role and a column.

    Attributes:
        outcome: "works", "refuses", "crashes" or "wrong".
        note: What was said.
    """

    outcome: str
    note: str = ""


def tried(case: Case, column: str) -> Cell:
    """Runs one cell and judges it."""
    torch.manual_seed(0)
    pyro.clear_param_store()
    try:
        with warnings.catch_warnings(action="ignore"):
            COLUMNS[column](case)
    except Wrong as error:
        return Cell("wrong", str(error))
    except AssertionError as error:
        outcome = "wrong" if "law broken" in str(error) else "crashes"
        return Cell(outcome, f"{type(error).__name__}: {error}")
    except Exception as error:  # whatever leaves the library
        said = f"{type(error).__name__}: {error}"
        return Cell("refuses" if _says_why(error) else "crashes", said)
    return Cell("works")


def _says_why(error: Exception) -> bool:
    """Whether an error has what was expected, what was got, and a remedy."""
    if isinstance(error, NotFinite):  # it names site and step
        return True
    form = r"expected .*(got|but) .*[;:,] "
    return isinstance(error, ValueError) and bool(re.search(form, str(error), re.DOTALL))


def table(names: list[str], columns: list[str]) -> dict[tuple[str, str, str], Cell]:
    """All cells of these classes, by class, role and column; those that do not work are printed."""
    cells = {}
    for name in names:
        for role in ROLES:
            case = Case(name, role)
            for column in columns:
                if column == "svi_step, inductor" and name not in COMPILED:
                    continue
                cell = tried(case, column)
                cells[name, role, column] = cell
                if cell.outcome != "works":
                    said = cell.note.replace("\n", " ")[:300]
                    print(name, role, column, cell.outcome, said, sep=" | ", flush=True)
    return cells


def main() -> None:
    arguments = sys.argv[1:]
    names = [name for name in arguments if name in ROWS] or list(ROWS)
    columns = [column for column in COLUMNS if column in arguments] or list(COLUMNS)
    cells = table(names, columns)
    print(f"{'':<32}" + "".join([f"{outcome:>9}" for outcome in OUTCOMES]))
    for role in ROLES:
        for column in columns:
            own = [cell for key, cell in cells.items() if key[1:] == (role, column)]
            seen = Counter([cell.outcome for cell in own])
            print(f"{role + ', ' + column:<32}" + "".join([f"{seen[o]:>9}" for o in OUTCOMES]))
    total = Counter([cell.outcome for cell in cells.values()])
    print(f"{'all':<32}" + "".join([f"{total[outcome]:>9}" for outcome in OUTCOMES]))


OUTCOMES = ("works", "refuses", "crashes", "wrong")

if __name__ == "__main__":
    main()
