"""Parameters at which a simulator's moments are those of data, with intervals and a test of fit."""

from __future__ import annotations

__all__ = ["Matched"]

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.latents.layout import coordinates
from ppl_gen.inference.result import Result

if TYPE_CHECKING:
    import pandas

_MISFIT = 0.01  # p-value, below which data are none of the simulator's
_SITE = "theta"


@dataclass(frozen=True, eq=False, repr=False)
class Matched(Result):
    """θ̂ of a simulator, by matching what it draws with data.

    Attributes:
        estimate: θ̂ and its standard errors, (D,): sampling error of the data and of the simulated
            draws. `estimate.interval` is θ̂ ± z s, `interval` keeps to the supports.
        covariance: Of θ̂, (D, D).
        line: θ̂ and its standard errors on the whole line, before the map to the supports.
        gap: Mean features of the data less those of the simulated, with standard errors, (K,).
        statistic: J = n gapᵀ W gap with n = N / (1 + 1/S), of Hansen's test where W is the inverse
            of the features' covariance.
        degrees: Of the χ² that J is held against: K − D for Hansen's test; 0 where there are as
            many features as parameters, and nothing is left to test.
        p_value: P(χ² ≥ J), of data that are the simulator's; NaN where nothing is left to test.
        derivatives: "pathwise", through the simulator, or "differences" of runs on the same noise.
        data: N.
        draws: S, how many data are simulated for each datum.
        runs: How often S N data were simulated.
        has_converged: Whether the search has come to an end.
        is_identified: Whether the features tell the parameters apart; errors are NaN if not.
        seconds: Wall time.
        transform: The map from the whole line to the supports.

    Examples:
        >>> def simulator(theta):
        ...     return dist.Normal(theta, 1.0).to_event(1)
        >>> found = match_moments(simulator, torch.randn(200, 1) + 2, start=torch.zeros(1), seed=0)
        >>> low, high = found.interval(0.999)
        >>> bool(low < 2 < high), found.has_converged, found.covariance.shape
        (True, True, torch.Size([1, 1]))
    """

    estimate: Estimate
    covariance: Tensor
    line: Estimate
    gap: Estimate
    statistic: float
    degrees: float
    p_value: float
    derivatives: str
    data: int
    draws: int
    runs: int
    has_converged: bool
    is_identified: bool
    seconds: float
    transform: Any

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """T(û ± z s), which stays in the supports and holds θ with about this probability.

        Args:
            level: The probability, between 0 and 1, for each parameter by itself.

        Returns:
            The lower and the upper ends, each (D,).

        Raises:
            ValueError: If level is not between 0 and 1.
        """
        low, high = self.line.interval(level)
        ends = torch.stack([self.transform(low), self.transform(high)])
        return ends.amin(0), ends.amax(0)  # a map may turn the line around

    @property
    def verdict(self) -> Verdict:
        """Whether θ̂ is found, and whether data can be the simulator's.

        Tags: "not-converged"; "not-identified" where features do not tell parameters apart;
        "misfit" where p is below 0.01; "fits" elsewhere, or "nothing-left" where there are no more
        features than parameters, so that nothing is tested.
        """
        found = []
        if not self.is_identified:
            sentence = (
                "at the estimate the features do not tell the parameters apart: errors are not "
                "known; give other or further features, or another start"
            )
            found.append(Finding("not-identified", sentence))
        elif not self.has_converged:
            sentence = (
                "the search has not come to an end: another step would be long beside the standard "
                "errors; give another start, more draws, or features that vary less"
            )
            found.append(Finding("not-converged", sentence))
        tested = f"χ² = {self.statistic:.3g} at {self.degrees:.3g} degrees, p = {self.p_value:.3g}"
        if self.p_value < _MISFIT:
            sentence = (
                f"data are none of this simulator's: {tested}; the table has the features by how "
                "far they are off"
            )
            found.append(Finding("misfit", sentence))
        if found:
            return Verdict(tuple(found), passes=False)
        if not self.degrees:
            sentence = (
                "as many features as parameters: all are matched, and none is left to test the "
                "simulator by"
            )
            return Verdict((Finding("nothing-left", sentence),), passes=None)
        return Verdict((Finding("fits", f"nothing speaks against it: {tested}"),), passes=True)

    @property
    def headline(self) -> str:
        """θ̂ with its errors, and what that took."""
        names = coordinates(_SITE, self.estimate.value.shape)
        shown = []
        for name, one in zip(names, self.estimate, strict=True):
            shown.append(f"{name} = {one}")
        return (
            f"{', '.join(shown)}; {self.data} data, {self.draws} draws for each, {self.runs} runs "
            f"({self.derivatives}), {self.seconds:.1f} s"
        )

    def table(self) -> pandas.DataFrame:
        """A row for each parameter: value, standard_error, and 95 % interval from low to high."""
        import pandas

        low, high = self.interval()
        columns = {
            "value": self.estimate.value,
            "standard_error": self.estimate.standard_error,
            "low": low,
            "high": high,
        }
        names = coordinates(_SITE, self.estimate.value.shape)
        return pandas.DataFrame({k: v.cpu().numpy() for k, v in columns.items()}, index=names)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each feature: gap, standard_error and z, their ratio."""
        import pandas

        gap = self.gap.value.cpu().numpy()
        error = self.gap.standard_error.cpu().numpy()
        columns = {"gap": gap, "standard_error": error, "z": gap / error}
        names = coordinates("feature", self.gap.value.shape)
        return pandas.DataFrame(columns, index=names)
