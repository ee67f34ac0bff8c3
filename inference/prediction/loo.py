"""Leave-one-out prediction from draws of the global latents, by ArviZ's PSIS.

Local latents are integrated out.
"""

from __future__ import annotations

__all__ = ["Elpd", "Predictive"]

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from pyro import poutine
from torch import Tensor
from torch.func import vmap

from ppl_gen import memory
from ppl_gen.inference.diagnostics import effective_size
from ppl_gen.inference.engine.vectorised import at_each
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.mcmc.datasets import container
from ppl_gen.inference.prediction.pointwise import Values, log_likelihood, values_at
from ppl_gen.inference.result import Result
from ppl_gen.pyro_patches import drawing
from ppl_gen.sites import is_deterministic, stochastic_sites

if TYPE_CHECKING:
    import pandas

_K_HAT_LIMIT = 0.7
_TOLERANCE = 0.1  # nats, of an average over local latents
_DRAWS = 1000  # that leave-one-out takes of what it is given


@dataclass(frozen=True, eq=False, repr=False)
class Elpd(Result):
    """Σᵢ log p(xᵢ | x₋ᵢ), or Σᵢ log p(xᵢ) where the parameters are fixed, in nats.

    Attributes:
        value: The sum over data.
        standard_error: Its error from the spread over data, √N times their standard deviation.
        pointwise: Each term, (N,).
        k_hat: Pareto shape of each datum's weights, (N,); above 0.7 its term is not to be trusted.
            None where there are none.
        inner_error: The largest standard error, over data, of an average over local latents, in
            nats (99 % of draws lie below).
        how: What was computed, in words.
    """

    value: float
    standard_error: float
    pointwise: Tensor
    k_hat: Tensor | None
    inner_error: float
    how: str

    @classmethod
    def of(cls, pointwise: Tensor, k_hat: Tensor | None, inner_error: float, how: str) -> Elpd:
        """The sum of the terms `pointwise`, (N,), with its error."""
        terms = pointwise.double()
        n = terms.numel()
        standard_error = math.nan
        if n > 1:
            standard_error = float(terms.std()) * n**0.5
        return cls(
            value=float(terms.sum()),
            standard_error=standard_error,
            pointwise=pointwise,
            k_hat=k_hat,
            inner_error=inner_error,
            how=how,
        )

    @property
    def verdict(self) -> Verdict:
        """Whether the weights that leave out a datum can be trusted.

        Tags: "reliable", which passes, or "unreliable"; without weights nothing is tested.
        """
        if self.k_hat is None:
            return Verdict(())
        worst = float(self.k_hat.max())
        if not self._bad:
            sentence = f"the weights can be trusted: k̂ is at most {worst:.2f}"
            return Verdict((Finding("reliable", sentence),), passes=True)
        sentence = (
            f"k̂ of {self._bad} of {self.k_hat.numel()} data is above {_K_HAT_LIMIT} (up to "
            f"{worst:.2f}): their terms are not to be trusted; fit again without each of them, or "
            "take a model that is surprised less"
        )
        return Verdict((Finding("unreliable", sentence),), passes=False)

    @property
    def _bad(self) -> int:
        """The number of data whose k̂ is above its limit."""
        if self.k_hat is None:
            return 0
        return int((self.k_hat > _K_HAT_LIMIT).sum())

    def table(self) -> pandas.DataFrame:
        """One row: the sum with its error, the inner error, the number of data, the largest k̂."""
        import pandas

        row = {
            "value": self.value,
            "standard_error": self.standard_error,
            "inner_error": self.inner_error,
            "data": self.pointwise.numel(),
        }
        if self.k_hat is not None:
            row["k_hat"] = float(self.k_hat.max())
        return pandas.DataFrame([row], index=["elpd"])

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each datum: its term, and k_hat where there is one."""
        import pandas

        columns = {"pointwise": self.pointwise.flatten().cpu().numpy()}
        if self.k_hat is not None:
            columns["k_hat"] = self.k_hat.flatten().cpu().numpy()
        return pandas.DataFrame(columns)

    @property
    def headline(self) -> str:
        """The sum with its error, and for how many data it is not to be trusted."""
        text = f"{self.value:.2f} ± {self.standard_error:.2f}"
        if self._bad:
            text += f", k̂ above {_K_HAT_LIMIT} for {self._bad} data"
        return text

    def __str__(self) -> str:
        return self.headline


class Predictive:
    """log p(xᵢ | g) = log ∫ p(xᵢ | ℓᵢ, g) p(ℓᵢ | g) dℓᵢ, with global latents g and local ones ℓᵢ.

    The local latents of a datum are those in the plate of xᵢ. Discrete ones are summed out exactly,
    continuous ones by drawing from p(ℓ | g). LOO on p(xᵢ | ℓᵢ, g) itself would be useless, since
    each ℓᵢ has seen xᵢ.

    Args:
        model: Any Pyro program with observed sites in a plate.
        args: What it is called with.
        samples: Draws of its continuous latents, by site, (chains, draws, *shape).

    Attributes:
        plate: The plate whose entries are left out one by one.
        local: The continuous latents that are integrated out.
        outer: The global continuous latents.

    Raises:
        ValueError: If no plate holds an observed site, several do that are not nested, or discrete
            latents join several data.
    """

    def __init__(self, model: Callable[..., Any], args: Sequence[Any], samples: Values) -> None:
        self.model = model
        self.args = tuple(args)
        first = {name: value[0, 0] for name, value in samples.items()}
        trace = poutine.trace(poutine.condition(model, data=first)).get_trace(*self.args)
        sites = stochastic_sites(trace)
        observed = {}
        for name, site in sites.items():
            if site["is_observed"] and name not in samples and not is_deterministic(site):
                observed[name] = site
        self.plate = _plate_of_data(observed)
        self.local: list[str] = []
        self.outer: list[str] = []
        latents: Values = {}
        for name in samples:
            if name not in sites or is_deterministic(sites[name]):
                continue
            latents[name] = first[name]
            if _is_inside(sites[name], self.plate):
                self.local.append(name)
            else:
                self.outer.append(name)
        self._pointwise = log_likelihood(model, self.args, latents, list(observed))
        self._draw_local = values_at(model, self.args, self.local)

    def log_likelihood(self, outer: Values, inner: int = 1000) -> tuple[Tensor, float]:
        """log p(xᵢ | g) at T draws of g, (T, N), and the largest inner standard error, in nats.

        Args:
            outer: The draws of the global latents g, by site, (T, *shape); where there are none,
                any tensor of length T.
            inner: How many local latents are drawn for each, at first; four times as many, and
                again, while the error (see `Elpd`) is above 0.1 nats.

        Raises:
            ValueError: If vmap cannot follow the program, without which the inner average would
                take too long.
        """
        if not self.local:
            with drawing():
                return self._summed(at_each(self._pointwise.function, outer)), 0.0
        while True:
            value, error = self._averaged(outer, inner)
            inner *= 4
            if error < _TOLERANCE or inner * value.numel() > memory.INNER_AVERAGES:
                return value, error

    def loo(self, samples: Values) -> Elpd:
        """PSIS-LOO from MCMC draws, at most about a thousand of them, evenly spaced.

        Args:
            samples: By site, (chains, draws, *shape).

        Raises:
            ValueError: If vmap cannot follow the program where local latents are integrated out.

        Reference:
            Vehtari, Gelman and Gabry (2017), Practical Bayesian model evaluation using
            leave-one-out cross-validation; Merkle, Furr and Rabe-Hesketh (2019), Bayesian
            comparison of latent variable models, for the marginal likelihood.
        """
        import arviz

        chains, draws = next(iter(samples.values())).shape[:2]
        every = max(1, chains * draws // _DRAWS)
        count = len(range(0, draws, every)) * chains
        if count < 2:
            raise ValueError("LOO needs at least 2 draws, got 1; raise draws or chains")
        outer = {name: samples[name][:, ::every].flatten(0, 1) for name in self.outer}
        value, error = self.log_likelihood(outer or _nothing(count))
        value = value.double().unflatten(0, (chains, -1))
        sizes = effective_size((value - value.amax((0, 1))).exp())
        relative_sizes = (sizes / count).nan_to_num(1.0)
        efficiency = float(relative_sizes.mean().clamp(max=1.0))
        with warnings.catch_warnings(action="ignore"):  # k̂ says the same
            result = arviz.loo(_table(value), pointwise=True, reff=efficiency)
        how = f"PSIS-LOO on the marginal likelihood of {self._described}, {count} draws"
        return _elpd(result, error, how)

    def loo_of_guide(self, samples: Values, log_p: Tensor, log_q: Tensor) -> Elpd:
        """PSIS-LOO from draws of a guide, corrected by p(z, x) / q(z); from ArviZ 1.0 on.

        Args:
            samples: By site, (M, *shape).
            log_p: log p(z, x) at the draws, (M,), in any coordinates.
            log_q: log q(z), (M,), in the same.

        Raises:
            ValueError: If ArviZ is older, or if vmap cannot follow the program where local latents
                are integrated out.

        Reference:
            Magnusson, Andersen, Jonasson and Vehtari (2019), Bayesian leave-one-out
            cross-validation for large data.
        """
        import arviz

        if not hasattr(arviz, "loo_approximate_posterior"):
            raise ValueError(
                f"LOO of an approximate posterior needs ArviZ 1.0, got {arviz.__version__}"
            )
        every = max(1, len(log_p) // _DRAWS)
        log_p = log_p[::every].double()
        log_q = log_q[::every].double()
        outer = {name: samples[name][::every] for name in self.outer}
        value, error = self.log_likelihood(outer or _nothing(len(log_p)))
        with warnings.catch_warnings(action="ignore"):  # k̂ says the same
            result = arviz.loo_approximate_posterior(
                _table(value.double()[None]),
                log_p.cpu().numpy(),
                log_q.cpu().numpy(),
                pointwise=True,
            )
        how = f"PSIS-LOO of the guide on the marginal likelihood of {self._described}"
        return _elpd(result, error, how)

    def _averaged(self, outer: Values, inner: int) -> tuple[Tensor, float]:
        """log (1/K) Σₖ p(xᵢ | ℓᵢₖ, g) with ℓᵢₖ ~ p(ℓᵢ | g) and K = inner, and the largest error.

        By vmap alone: draws one after the other, to which `at_each` would resort, take too long.
        """

        def at_new_local(outer: Values) -> Values:
            return self._pointwise.function(outer | self._draw_local(outer))

        averages: list[Tensor] = []
        errors: list[Tensor] = []
        try:
            with drawing():
                one = vmap(at_new_local, randomness="different")(_rows(outer, slice(1)))
                width = self._summed(one).shape[-1]
                chunk = memory.rows(memory.VECTORISED, width)
                size = memory.rows(memory.VECTORISED, inner * width)
                for start in range(0, _length(outer), size):
                    repeated = {}
                    for name, value in _rows(outer, slice(start, start + size)).items():
                        repeated[name] = value.repeat_interleave(inner, 0)
                    drawn = vmap(at_new_local, randomness="different", chunk_size=chunk)(repeated)
                    terms = self._summed(drawn).double().unflatten(0, (-1, inner))
                    averages.append(terms.logsumexp(1) - math.log(inner))
                    errors.append(_error_of_average(terms))
        except RuntimeError as error:
            reason = next(iter(str(error).splitlines()), "")
            raise ValueError(
                f"the local latents cannot be drawn for all draws at once: {reason}"
            ) from error
        worst = torch.cat(errors).quantile(0.99, 0).max()
        return torch.cat(averages), float(worst)

    def _summed(self, values: Values) -> Tensor:
        """All observed sites together at T draws, the axes of other plates added up: (T, N)."""
        total = torch.zeros(())
        for name, value in values.items():
            others = []
            for axis, plate in enumerate(self._pointwise.plates[name], start=1):
                if plate != self.plate:
                    others.append(axis)
            if others:
                value = value.sum(others)
            total = total + value
        return total

    @property
    def _described(self) -> str:
        plate = f"the plate {self.plate!r}"
        if not self.local:
            return plate
        return f"{plate}, {', '.join(map(repr, self.local))} integrated out"


def _plate_of_data(observed: Mapping[str, Any]) -> str:
    """The plate that holds all observed sites: "data", or else the outermost of the first site.

    Raises:
        ValueError: If there is none.
    """
    if not observed:
        raise _no_plate("nothing observed")
    first, *others = observed.values()
    shared = _plate_names(first)
    for site in others:
        names = _plate_names(site)
        shared = [name for name in shared if name in names]
    if not shared:
        some = list(map(repr, observed))[:3]
        if len(observed) > 3:
            some.append("…")
        raise _no_plate(f"{', '.join(some)} in no plate that holds all")
    if "data" in shared:
        return "data"
    return shared[0]


def _no_plate(found: str) -> ValueError:
    return ValueError(
        f"leaving out one datum needs observed sites in a plate, and there is {found}"
    )


def _plate_names(site: Mapping[str, Any]) -> list[str]:
    """The plates of a site that take an axis."""
    return [frame.name for frame in site["cond_indep_stack"] if frame.vectorized]


def _is_inside(site: Mapping[str, Any], plate: str) -> bool:
    """Whether a site lies in a plate of this name."""
    return any(frame.name == plate for frame in site["cond_indep_stack"])


def _error_of_average(terms: Tensor) -> Tensor:
    """The standard error of log (1/K) Σₖ exp(terms), of terms (T, K, N) over K: (T, N)."""
    count = terms.shape[1]
    ess = (2 * terms.logsumexp(1) - (2 * terms).logsumexp(1)).exp()
    return ((count / ess - 1) / (count - 1)).clamp(min=0).sqrt()


def _nothing(count: int) -> Values:
    """The draws of no latents at all, `count` of them."""
    return {"": torch.zeros(count)}


def _length(draws: Values) -> int:
    return len(next(iter(draws.values())))


def _rows(draws: Values, rows: slice) -> Values:
    return {name: value[rows] for name, value in draws.items()}


def _table(value: Tensor) -> Any:
    """What ArviZ takes for the log likelihood (chains, draws, N)."""
    import xarray

    data = xarray.Dataset({"x": (("chain", "draw", "datum"), value.cpu().numpy())})
    indices = {name: range(size) for name, size in data.sizes.items()}
    return container({"log_likelihood": data.assign_coords(indices)})


def _elpd(result: Any, error: float, how: str) -> Elpd:
    """From what ArviZ returns, whose names changed with 1.0."""
    terms = result.loo_i if "loo_i" in dir(result) else result.elpd_i
    pointwise = torch.as_tensor(terms.values.copy())
    k_hat = torch.as_tensor(result.pareto_k.values.copy())
    return Elpd.of(pointwise, k_hat, error, how)
