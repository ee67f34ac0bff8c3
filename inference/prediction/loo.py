"""Leave-one-out prediction from draws of the global latents, the local ones integrated out, by PSIS
in ArviZ.
"""

from __future__ import annotations

__all__ = ["Elpd", "Predictive"]

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from torch import Tensor
from torch.func import vmap

from ppl_gen.inference.engine.vectorised import at_each
from ppl_gen.inference.mcmc.diagnostics import effective_size
from ppl_gen.inference.prediction.arviz_export import container
from ppl_gen.inference.prediction.pointwise import log_likelihood, values_at
from ppl_gen.program import stochastic_sites
from ppl_gen.pyro_patches import drawing

_CHUNK = 2**22
_MOST = 2**28  # numbers computed for the inner averages, before the error is taken as it is
_TOLERANCE = 0.1

Values = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Elpd:
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
        """Summed up from its terms (N,)."""
        n = pointwise.numel()
        spread = float(pointwise.double().std()) * n**0.5 if n > 1 else math.nan
        return cls(float(pointwise.double().sum()), spread, pointwise, k_hat, inner_error, how)

    def __str__(self) -> str:
        bad = 0 if self.k_hat is None else int((self.k_hat > 0.7).sum())
        return f"{self.value:.2f} ± {self.standard_error:.2f}" + (
            f", k̂ above 0.7 for {bad} data" if bad else ""
        )


class Predictive:
    """log p(xᵢ | g) = log ∫ p(xᵢ | ℓᵢ, g) p(ℓᵢ | g) dℓᵢ, with g the global latents and ℓᵢ those of
    the plate of xᵢ.

    Discrete latents of one datum are summed out exactly, continuous ones by drawing from p(ℓ | g).
    LOO on p(xᵢ | ℓᵢ, g) itself would be useless, since each ℓᵢ has seen xᵢ.

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
        self.model, self.args = model, tuple(args)
        one = {name: value[0, 0] for name, value in samples.items()}
        trace = poutine.trace(poutine.condition(model, data=one)).get_trace(*self.args)
        sites = stochastic_sites(trace)
        observed = {
            n: s
            for n, s in sites.items()
            if s["is_observed"] and n not in samples and not s["infer"].get("_deterministic")
        }
        frames = {
            n: [f for f in s["cond_indep_stack"] if f.vectorized] for n, s in observed.items()
        }
        common = (
            set.intersection(*({f.name for f in fs} for fs in frames.values())) if frames else set()
        )
        if not common:
            some = ", ".join([*map(repr, list(frames)[:3]), *(["…"] if len(frames) > 3 else [])])
            what = f"{some} in no plate that holds all" if frames else "nothing observed"
            raise ValueError(
                f"leaving out one datum needs observed sites in a plate, and there is {what}"
            )
        self.plate = (
            "data"
            if "data" in common
            else next(f.name for f in next(iter(frames.values())) if f.name in common)
        )
        inside = {
            n for n, s in sites.items() if any(f.name == self.plate for f in s["cond_indep_stack"])
        }
        latent = [n for n in samples if n in sites and not sites[n]["infer"].get("_deterministic")]
        self.local = [n for n in latent if n in inside]
        self.outer = [n for n in latent if n not in inside]
        self._pointwise = log_likelihood(
            model, self.args, {n: one[n] for n in latent}, list(observed)
        )
        self._draw_local = values_at(model, self.args, self.local)

    def log_likelihood(self, outer: Values, inner: int = 1000) -> tuple[Tensor, float]:
        """log p(xᵢ | g) at T draws of the global latents, (T, N), and the largest inner standard
        error (see `Elpd`).

        Args:
            outer: The draws, by site, (T, *shape); where there are no global latents, any tensor of
                length T.
            inner: How many local latents are drawn for each, at first; four times as many, and
                again, while the error is above 0.1 nats.

        Raises:
            ValueError: If vmap cannot follow the program, without which the inner average would
                take too long.
        """
        if not self.local:
            with drawing():
                return self._summed(at_each(self._pointwise.function, outer), 1), 0.0
        while True:
            value, error = self._averaged(outer, inner)
            if error < _TOLERANCE or 4 * inner * value.numel() > _MOST:
                return value, error
            inner *= 4

    def _averaged(self, outer: Values, inner: int) -> tuple[Tensor, float]:
        def one(outer: Values) -> Values:
            return self._pointwise.function(outer | self._draw_local(outer))

        try:
            with drawing():
                width = self._summed(
                    vmap(one, randomness="different")({n: v[:1] for n, v in outer.items()}), 1
                ).shape[-1]
                values: list[Tensor] = []
                errors: list[Tensor] = []
                for part in _parts(outer, max(1, _CHUNK // (inner * width))):
                    repeated = {n: v.repeat_interleave(inner, 0) for n, v in part.items()}
                    drawn = vmap(one, randomness="different", chunk_size=_CHUNK // width)(repeated)
                    weights = self._summed(drawn, 1).double().unflatten(0, (-1, inner))
                    values.append(weights.logsumexp(1) - math.log(inner))
                    ess = (2 * weights.logsumexp(1) - (2 * weights).logsumexp(1)).exp()
                    errors.append(((inner / ess - 1) / (inner - 1)).clamp(min=0).sqrt())
        except RuntimeError as error:
            reason = next(iter(str(error).splitlines()), "")
            raise ValueError(
                f"the local latents cannot be drawn for all draws at once: {reason}"
            ) from error
        worst = torch.cat(errors).quantile(0.99, 0).max() if len(outer) else torch.zeros(())
        return torch.cat(values), float(worst)

    def _summed(self, values: Values, lead: int) -> Tensor:
        """All observed sites together, the axes of other plates added up: (*lead, N)."""
        total = torch.zeros(())
        for name, value in values.items():
            plates = self._pointwise.plates[name]
            others = [lead + i for i, plate in enumerate(plates) if plate != self.plate]
            total = total + (value.sum(others) if others else value)
        return total

    def loo(self, samples: Values) -> Elpd:
        """PSIS-LOO from MCMC draws, at most about a thousand of them, evenly spaced.

        Args:
            samples: By site, (chains, draws, *shape).

        Raises:
            ValueError: As `log_likelihood` does.

        Reference:
            Vehtari, Gelman and Gabry (2017), Practical Bayesian model evaluation using
            leave-one-out cross-validation; Merkle, Furr and Rabe-Hesketh (2019), Bayesian
            comparison of latent variable models, for the marginal likelihood.
        """
        import arviz

        chains, draws = next(iter(samples.values())).shape[:2]
        step = max(1, chains * draws // 1000)
        outer = {n: samples[n][:, ::step].flatten(0, 1) for n in self.outer}
        count = len(range(0, draws, step)) * chains
        value, error = self.log_likelihood(outer or {"": torch.zeros(count)})
        value = value.double().unflatten(0, (chains, -1))
        sizes = effective_size((value - value.amax((0, 1))).exp())
        efficiency = float((sizes / count).nan_to_num(1.0).mean().clamp(max=1.0))
        with warnings.catch_warnings(action="ignore"):  # k̂ says the same
            result = arviz.loo(_table(value), pointwise=True, reff=efficiency)
        return _read(
            result,
            error,
            f"PSIS-LOO on the marginal likelihood of {self._described}, {count} draws",
        )

    def loo_of_guide(self, samples: Values, log_p: Tensor, log_q: Tensor) -> Elpd:
        """PSIS-LOO from draws of a guide, corrected by p(z, x) / q(z); from ArviZ 1.0 on.

        Args:
            samples: By site, (M, *shape).
            log_p: log p(z, x) at the draws, (M,), in any coordinates.
            log_q: log q(z), (M,), in the same.

        Raises:
            ValueError: If ArviZ is older; or as `log_likelihood` does.

        Reference:
            Magnusson, Andersen, Jonasson and Vehtari (2019), Bayesian leave-one-out
            cross-validation for large data.
        """
        import arviz

        if not hasattr(arviz, "loo_approximate_posterior"):
            raise ValueError(
                f"LOO of an approximate posterior needs ArviZ 1.0, got {arviz.__version__}"
            )
        step = max(1, len(log_p) // 1000)
        outer = {n: samples[n][::step] for n in self.outer}
        log_p, log_q = log_p[::step].double(), log_q[::step].double()
        value, error = self.log_likelihood(outer or {"": torch.zeros(len(log_p))})
        with warnings.catch_warnings(action="ignore"):  # k̂ says the same
            densities = (log_p.cpu().numpy(), log_q.cpu().numpy())
            result = arviz.loo_approximate_posterior(
                _table(value.double()[None]), *densities, pointwise=True
            )
        return _read(
            result, error, f"PSIS-LOO of the guide on the marginal likelihood of {self._described}"
        )

    @property
    def _described(self) -> str:
        integrated = f", {', '.join(map(repr, self.local))} integrated out" if self.local else ""
        return f"the plate {self.plate!r}{integrated}"


def _parts(values: Values, size: int) -> list[Values]:
    count = next(iter(values.values())).shape[0]
    return [{n: v[i : i + size] for n, v in values.items()} for i in range(0, count, size)]


def _table(value: Tensor) -> Any:
    """What ArviZ takes for the log likelihood (chains, draws, N)."""
    import xarray

    data = xarray.Dataset({"x": (("chain", "draw", "datum"), value.cpu().numpy())})
    return container(
        {
            "log_likelihood": data.assign_coords(
                {name: range(size) for name, size in data.sizes.items()}
            )
        }
    )


def _read(result: Any, error: float, how: str) -> Elpd:
    """From ArviZ's table, whose names changed with 1.0."""
    terms = result.loo_i if "loo_i" in dir(result) else result.elpd_i
    arrays = [torch.as_tensor(a.values.copy()) for a in (terms, result.pareto_k)]
    return Elpd.of(arrays[0], arrays[1], error, how)
