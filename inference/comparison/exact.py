"""What is known exactly of a posterior: moments, draws, correlations, and the evidence."""

from __future__ import annotations

__all__ = ["Exact"]

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_gen.inference.comparison.guide_density import latents_at_zero
from ppl_gen.inference.latents.potential import Potential, log_joint
from ppl_gen.protocols import Distribution

_POINTS = 9  # draws of the posterior at which Bayes' rule is read


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
        """What the user gave, or else what the program itself knows.

        Args:
            program: Asked for `exact_log_evidence`, `exact_posterior` and `reference`, if it has
                them.
            exact: A distribution of the only latent site, (mean, sd) by site, or None.
            data: What the model is called with.
            potential: −log p(x, z) of the model on these data.

        Raises:
            ValueError: If `exact` is of another kind, names other sites, or has other shapes.
        """
        evidence = _evidence(program, data, potential)
        if isinstance(exact, Mapping):
            _expect_sites(exact, potential)
            return cls(moments=_pairs(exact), log_evidence=evidence)
        if exact is not None:
            _expect_distribution(exact)
            _expect_only_site(exact, potential)
            return cls._of_distribution(exact, evidence, potential)
        own = None
        if data and hasattr(program, "exact_posterior"):
            own = program.exact_posterior(*data)
        if own is not None:
            _expect_distribution(own)
            if _is_of_only_site(own, potential):
                return cls._of_distribution(own, evidence, potential)
            return cls(log_evidence=evidence)
        if hasattr(program, "reference"):
            return cls._of_reference(program, evidence, data)
        return cls(log_evidence=evidence)

    @classmethod
    def _of_reference(cls, program: Any, evidence: Tensor | None, data: tuple[Any, ...]) -> Exact:
        """The moments that a toy posterior is published with, for its own data."""
        if not _are_equal(program.data, data):
            why = "the program's reference is that of other data"
            return cls(log_evidence=evidence, unavailable={"exact": why})
        try:
            return cls(moments=_pairs(program.reference()), log_evidence=evidence)
        except ValueError as error:
            return cls(log_evidence=evidence, unavailable={"exact": str(error)})

    @classmethod
    def _of_distribution(
        cls, exact: Distribution, evidence: Tensor | None, potential: Potential
    ) -> Exact:
        """The posterior of the only latent site; the evidence by Bayes' rule if not known."""
        (site,) = potential.names
        if evidence is None and not isinstance(exact, dist.Empirical):
            evidence = _by_bayes(exact, site, potential)
        return cls(
            moments={site: (exact.mean, exact.variance.sqrt())},
            distribution=exact,
            log_evidence=evidence,
            site=site,
        )

    def flat(self, shapes: Mapping[str, torch.Size]) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of all entries of these sites, (K,), NaN where unknown.

        Args:
            shapes: The shape of each site, by name.

        Raises:
            ValueError: If the moments of a site have another shape.
        """
        means: list[Tensor] = []
        sds: list[Tensor] = []
        for name, shape in shapes.items():
            unknown = torch.full(shape, torch.nan)
            mean, sd = self.moments.get(name, (unknown, unknown))
            if mean.shape != shape or sd.shape != shape:
                raise ValueError(
                    f"expected the exact moments of {name!r} to be of shape {tuple(shape)}, got "
                    f"{tuple(mean.shape)}"
                )
            means.append(_flat(mean))
            sds.append(_flat(sd))
        return torch.cat(means), torch.cat(sds)

    def draws(self, count: int) -> dict[str, Tensor] | None:
        """Draws (count, *shape) by site; None where there is no distribution."""
        if self.distribution is None:
            return None
        return {self.site: self.distribution.sample((count,)).detach()}

    def correlation(self, potential: Potential) -> dict[str, Tensor]:
        """{"exact": (B, D, D)} where the posterior has a covariance matrix; else empty."""
        covariance = getattr(self.distribution, "covariance_matrix", None)
        if covariance is None:
            return {}
        sd = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
        correlation = covariance / sd[..., None] / sd[..., None, :]
        correlation = correlation.double().detach()
        if not potential.local and correlation.dim() > 2:
            correlation = torch.block_diag(*correlation.flatten(0, -3))
        if correlation.dim() == 2:
            correlation = correlation[None]
        return {"exact": correlation}


def _flat(moments: Tensor) -> Tensor:
    """The entries of a site's moments, float64, on the CPU."""
    return moments.detach().double().cpu().flatten()


def _expect_sites(exact: Mapping[str, Any], potential: Potential) -> None:
    """Raises ValueError unless all sites are the model's."""
    unknown = sorted(exact.keys() - potential.dims.keys())
    if unknown:
        raise ValueError(
            f"expected exact moments of sites among {sorted(potential.dims)}, got some of {unknown}"
        )


def _expect_distribution(exact: Any) -> None:
    """Raises ValueError unless this is one of Pyro's distributions."""
    if not isinstance(exact, Distribution):
        raise ValueError(
            "expected exact to be a distribution of pyro.distributions or (mean, sd) by site, got "
            f"{type(exact).__name__}"
        )


def _expect_only_site(exact: Distribution, potential: Potential) -> None:
    """Raises ValueError unless the model has one latent site, which this is a distribution of."""
    if not _is_of_only_site(exact, potential):
        values = latents_at_zero(potential)
        shapes = {name: tuple(value.shape) for name, value in values.items()}
        raise ValueError(
            "expected exact to be a distribution of the model's only latent site, got shape "
            f"{tuple(exact.mean.shape)} for {shapes}; give (mean, sd) by site instead"
        )


def _is_of_only_site(exact: Distribution, potential: Potential) -> bool:
    """Whether the model has one latent site, of the shape that this distribution draws."""
    first, *others = latents_at_zero(potential).values()
    return not others and exact.mean.shape == first.shape


def _pairs(moments: Mapping[str, Any]) -> dict[str, tuple[Tensor, Tensor]]:
    """(mean, sd) by site as tensors.

    Raises:
        ValueError: If those of a site are no pair.
    """
    return {name: _pair(name, values) for name, values in moments.items()}


def _pair(name: str, moments: Any) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a site; raises ValueError if there are no two."""
    try:
        mean, sd = moments
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"expected exact[{name!r}] to be (mean, sd), got {type(moments).__name__}"
        ) from error
    return torch.as_tensor(mean), torch.as_tensor(sd)


def _are_equal(own: tuple[Any, ...], data: tuple[Any, ...]) -> bool:
    """Whether two tuples of data hold the same tensors."""
    if len(own) != len(data):
        return False
    return all(torch.equal(a, b) for a, b in zip(own, data, strict=True))


def _evidence(program: Any, data: tuple[Any, ...], potential: Potential) -> Tensor | None:
    """The program's exact log p(x), in nats: of each datum, or in all; None where it has none."""
    if not data or not hasattr(program, "exact_log_evidence"):
        return None
    value = program.exact_log_evidence(*data).detach().double()
    if potential.local:
        return value
    return value.sum()[None]


def _by_bayes(exact: Distribution, site: str, potential: Potential) -> Tensor | None:
    """log p(x) = log p(x, z) − log p(z | x), the same at every z; here the median over a few.

    None where the posterior has no density.
    """
    z = exact.sample((_POINTS,))
    try:
        q = potential.flatten({site: z})
        log_posterior = exact.log_prob(z).double()
    except (NotImplementedError, RuntimeError):
        return None
    if not potential.local:
        log_posterior = log_posterior.reshape(_POINTS, -1).sum(-1, keepdim=True)
    log_p = (log_joint(potential, q) - potential.log_jacobian(q)).double()
    return (log_p - log_posterior).median(0).values
