"""What is known exactly about a posterior: moments, draws, correlations, and the evidence by Bayes'
rule.
"""

from __future__ import annotations

__all__ = ["Exact"]

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_gen.inference.latents.potential import Potential, log_joint
from ppl_gen.protocols import Distribution


@dataclass(frozen=True, eq=False)
class Exact:
    """The true posterior as far as it is known.

    Attributes:
        moments: Mean and standard deviation by site, each of the site's shape.
        distribution: The posterior of the only latent site, where it is known as one.
        log_evidence: log p(x), by block (B,), in nats.
        site: The name of that site.
        unavailable: Why nothing is known, where something might have been.
    """

    moments: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    distribution: Distribution | None = None
    log_evidence: Tensor | None = None
    site: str = ""
    unavailable: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, program: Any, exact: Any, data: tuple[Any, ...], potential: Potential) -> Exact:
        """What was given, or else what the program says.

        Args:
            program: Asked for `exact_log_evidence`, `exact_posterior` and `reference`, if it has
                them.
            exact: A distribution of the only latent site, (mean, sd) by site, or None.
            data: What the model is called with.
            potential: Of the model on these data.

        Raises:
            ValueError: If what was given is of another kind, names other sites, or has other
                shapes.
        """
        evidence = _evidence(program, data, potential)
        if isinstance(exact, Mapping):
            if unknown := sorted(exact.keys() - potential.dims.keys()):
                raise ValueError(
                    f"expected exact moments of sites among {sorted(potential.dims)}, got some of "
                    f"{unknown}"
                )
            return cls({name: _pair(name, m) for name, m in exact.items()}, None, evidence)
        given = exact is not None
        if not given and data and hasattr(program, "exact_posterior"):
            exact = program.exact_posterior(*data)
        if exact is not None:
            return cls._of_distribution(exact, given, evidence, potential)
        if not hasattr(program, "reference"):
            return cls({}, None, evidence)
        own = program.data
        if len(own) != len(data) or not all(
            torch.equal(a, b) for a, b in zip(own, data, strict=True)
        ):
            return cls(
                {},
                None,
                evidence,
                unavailable={"exact": "the program's reference is that of other data"},
            )
        try:
            return cls(
                {name: _pair(name, m) for name, m in program.reference().items()}, None, evidence
            )
        except ValueError as error:
            return cls({}, None, evidence, unavailable={"exact": str(error)})

    @classmethod
    def _of_distribution(
        cls, exact: Any, given: bool, evidence: Tensor | None, potential: Potential
    ) -> Exact:
        if not isinstance(exact, Distribution):
            raise ValueError(
                "expected exact to be a distribution of pyro.distributions or (mean, sd) by "
                f"site, got {type(exact).__name__}"
            )
        origin = torch.zeros(1, *potential.shape, dtype=potential.dtype, device=potential.device)
        shapes = {name: value.shape[1:] for name, value in potential.sites(origin).items()}
        site, *others = shapes
        if others or exact.mean.shape != shapes[site]:
            if not given:
                return cls({}, None, evidence)
            raise ValueError(
                "expected exact to be a distribution of the model's only latent site, got shape "
                f"{tuple(exact.mean.shape)} for "
                f"{ {name: tuple(shape) for name, shape in shapes.items()} }; give (mean, sd) by "
                "site instead"
            )
        if evidence is None and not isinstance(exact, dist.Empirical):
            evidence = _by_bayes(exact, site, potential)
        return cls({site: (exact.mean, exact.variance.sqrt())}, exact, evidence, site)

    def flat(self, shapes: Mapping[str, torch.Size]) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of all entries of these sites, (K,), NaN where they are not
        known.

        Raises:
            ValueError: If those of a site have another shape.
        """
        means, sds = [], []
        for name, shape in shapes.items():
            nothing = torch.full(shape, torch.nan)
            mean, sd = self.moments.get(name, (nothing, nothing))
            if mean.shape != shape or sd.shape != shape:
                raise ValueError(
                    f"expected the exact moments of {name!r} to be of shape {tuple(shape)}, got "
                    f"{tuple(mean.shape)}"
                )
            means.append(mean.detach().double().cpu().flatten())
            sds.append(sd.detach().double().cpu().flatten())
        return torch.cat(means), torch.cat(sds)

    def draws(self, count: int) -> dict[str, Tensor] | None:
        """Draws (count, *shape) by site; None where there is no distribution."""
        return (
            None
            if self.distribution is None
            else {self.site: self.distribution.sample((count,)).detach()}
        )

    def correlation(self, potential: Potential) -> dict[str, Tensor]:
        """{"exact": (B, D, D)} where the posterior has a covariance matrix."""
        covariance = getattr(self.distribution, "covariance_matrix", None)
        if covariance is None:
            return {}
        sd = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
        correlation = (covariance / sd[..., None] / sd[..., None, :]).double().detach()
        if not potential.local and correlation.dim() > 2:
            correlation = torch.block_diag(*correlation.flatten(0, -3))
        return {"exact": correlation if correlation.dim() == 3 else correlation[None]}


def _pair(name: str, moments: Any) -> tuple[Tensor, Tensor]:
    try:
        mean, sd = moments
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"expected exact[{name!r}] to be (mean, sd), got {type(moments).__name__}"
        ) from error
    return torch.as_tensor(mean), torch.as_tensor(sd)


def _evidence(program: Any, data: tuple[Any, ...], potential: Potential) -> Tensor | None:
    """What the program says of log p(x), datum by datum or in all."""
    if not data or not hasattr(program, "exact_log_evidence"):
        return None
    value = program.exact_log_evidence(*data).detach().double()
    return value if potential.local else value.sum()[None]


def _by_bayes(exact: Distribution, site: str, potential: Potential) -> Tensor | None:
    """log p(x) = log p(x, z) − log p(z | x), the same at every z; here the median over a few."""
    z = exact.sample((9,))
    try:
        q = potential.flatten({site: z})
        log_posterior = exact.log_prob(z).double()
    except (NotImplementedError, RuntimeError):
        return None
    log_posterior = (
        log_posterior if potential.local else log_posterior.reshape(9, -1).sum(-1, keepdim=True)
    )
    return (
        (log_joint(potential, q) - potential.log_jacobian(q))
        .double()
        .sub(log_posterior)
        .median(0)
        .values
    )
