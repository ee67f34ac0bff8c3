"""Where posteriors overlap: how alike two of them are, and what is lost there."""

from __future__ import annotations

__all__ = ["Overlap", "affinity", "overlap"]

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ppl_gen.arguments import expect_tensor
from ppl_gen.inference.codes.anomaly import reconstruction_error
from ppl_gen.inference.codes.coder import Codes, encode
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.result import Result
from ppl_gen.memory import expect_memory
from ppl_gen.protocols import Guide

if TYPE_CHECKING:
    import pandas

_LEAST = 4  # data, for a correlation with an error


def affinity(codes: Codes) -> Tensor:
    """BC(qᵢ, qⱼ) = ∫ √(qᵢ qⱼ) dz of normal posteriors, (N, N): 1 where equal, 0 far apart.

    −log BC = ⅛ (μᵢ − μⱼ)ᵀ Σ⁻¹ (μᵢ − μⱼ) + ½ log (|Σ| / √(|Σᵢ| |Σⱼ|)), Σ = (Σᵢ + Σⱼ)/2.

    Args:
        codes: Means and covariances of N posteriors, such as `encode(program, x)` gives; those of
            others than normal ones are taken as normal.

    Raises:
        ValueError: If the codes have no width, as those of an autoencoder.

    Examples:
        >>> affinity(Codes(mean=torch.tensor([[0.0], [2.0]]), sd=torch.ones(2, 1)))
        tensor([[1.0000, 0.6065],
                [0.6065, 1.0000]], dtype=torch.float64)

    Reference:
        Bhattacharyya (1943), On a measure of divergence between two statistical populations.
    """
    covariance = codes.covariance.double()
    n, size = codes.mean.shape
    if codes.tril is None:
        # By coordinates, without a matrix for each pair.
        expect_memory(f"pairs of {n} posteriors", 24 * n * n * size, "take fewer data")
        mean, variance = codes.mean.double(), covariance.diagonal(dim1=1, dim2=2)
        middle = (variance[:, None] + variance) / 2
        squares = (mean[:, None] - mean).square()
        apart = (squares / middle).sum(-1)
        widths = middle.log() - (variance.log()[:, None] + variance.log()) / 2
        return (-apart / 8 - widths.sum(-1) / 2).exp()
    expect_memory(f"pairs of {n} posteriors", 24 * n * n * size * size, "take fewer data")
    mean = codes.mean.double()
    factor = torch.linalg.cholesky((covariance[:, None] + covariance) / 2)
    offset = (mean[:, None] - mean)[..., None]
    apart = torch.linalg.solve_triangular(factor, offset, upper=False).square().sum((-1, -2))
    middle = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    own = torch.linalg.slogdet(covariance).logabsdet
    widths = middle - (own[:, None] + own) / 2
    return (-apart / 8 - widths / 2).exp()


@dataclass(frozen=True, eq=False, repr=False)
class Overlap(Result):
    """How far each posterior overlaps with those of other data, and how badly it is decoded.

    Attributes:
        codes: The posteriors of N data.
        affinities: BC of each pair, (N, N).
        errors: ‖x − E[x | z]‖² at z = E[z | x], (N,).
        labels: Of the data, Long (N,); None where there are none.

    Examples:
        >>> ppca = toy.PPCA(torch.ones(3, 1), torch.zeros(3), 0.5)
        >>> found = overlap(ppca, torch.randn(5, 3))
        >>> found.affinities.shape, found.errors.shape
        (torch.Size([5, 5]), torch.Size([5]))
    """

    codes: Codes
    affinities: Tensor
    errors: Tensor
    labels: Tensor | None = None

    @property
    def overlaps(self) -> Tensor:
        """The mean BC of each posterior with those of the others, (N,)."""
        n = len(self.errors)
        return (self.affinities.sum(1) - self.affinities.diagonal()) / (n - 1)

    @property
    def with_other_labels(self) -> Tensor:
        """The mean BC of each posterior with those of data of other labels, (N,).

        Raises:
            ValueError: If there are no labels.
        """
        if self.labels is None:
            raise ValueError("expected data with labels, got none; see .overlaps")
        other = (self.labels[:, None] != self.labels).double()
        return (self.affinities * other).sum(1) / other.sum(1).clamp(min=1)

    @property
    def correlation(self) -> tuple[float, float]:
        """Spearman's ρ between overlap and error, and its standard error.

        The error is √((1 + ρ²/2) / (N − 3)) on the scale of artanh ρ, times 1 − ρ².

        Reference:
            Bonett and Wright (2000), Sample size requirements for estimating Pearson, Kendall and
            Spearman correlations.
        """
        overlaps = self.overlaps
        if self.labels is not None:
            overlaps = self.with_other_labels
        ranks = torch.stack([_ranks(overlaps), _ranks(self.errors)])
        rho = float(torch.corrcoef(ranks)[0, 1])
        on_line = ((1 + rho**2 / 2) / (len(self.errors) - 3)) ** 0.5
        return rho, (1 - rho**2) * on_line

    @property
    def verdict(self) -> Verdict:
        """Whether data are decoded worse where posteriors overlap, by two standard errors.

        Tags: "worse", "alike" or "better".
        """
        rho, error = self.correlation
        said = f"Spearman's correlation of overlap and error is {rho:.3f} ± {error:.3f}"
        if abs(rho) <= 2 * error:
            return Verdict((Finding("alike", f"the error does not go with the overlap: {said}"),))
        if rho > 0:
            return Verdict((Finding("worse", f"the error is larger where they overlap: {said}"),))
        return Verdict((Finding("better", f"the error is smaller where they overlap: {said}"),))

    @property
    def headline(self) -> str:
        """The mean overlap, of data with labels that of posteriors of different ones."""
        said = f"mean overlap of two posteriors {float(self.overlaps.mean()):.4f}"
        if self.labels is not None:
            said += f", of different labels {float(self.with_other_labels.mean()):.4f}"
        return said

    def table(self) -> pandas.DataFrame:
        """A row: the correlation of overlap and error, with its error."""
        import pandas

        rho, error = self.correlation
        columns = {"Spearman's ρ": [rho], "standard error": [error]}
        return pandas.DataFrame(columns, index=["overlap and error"])

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each datum: its overlap and its error."""
        import pandas

        columns = {"overlap": self.overlaps.cpu().numpy(), "error": self.errors.cpu().numpy()}
        if self.labels is not None:
            columns["with other labels"] = self.with_other_labels.cpu().numpy()
            columns["label"] = self.labels.cpu().numpy()
        return pandas.DataFrame(columns)


def overlap(
    program: Any,
    x: Tensor,
    *context: Tensor,
    labels: Tensor | None = None,
    guide: Guide | None = None,
) -> Overlap:
    """BC(q(z | xᵢ), q(z | xⱼ)) of all pairs, beside each datum's reconstruction error.

    A code between those of two data that overlap is decoded to something in between, which is
    neither: the error is large there.

    Args:
        program: A program whose latents are one vector.
        x: Data (N, *shape), at least four, some hundreds: all pairs are looked at.
        *context: What the program is conditioned on, each of length N.
        labels: Of the data, Long (N,); where they are given, only the overlap of different labels
            is held against the error.
        guide: q(z | x, context); `program.guide` if left out.

    Raises:
        ValueError: If there are fewer than four data, the codes have no width, or the program
            cannot be run on the data.

    Examples:
        >>> ppca = toy.PPCA(torch.ones(3, 1), torch.zeros(3), 0.5)
        >>> x = torch.tensor([[0.0], [0.0], [1.0], [3.0]]).expand(4, 3)
        >>> overlap(ppca, x).affinities[0].round(decimals=2)  # of the first with each
        tensor([1.0000, 1.0000, 0.2500, 0.0000], dtype=torch.float64)
    """
    expect_tensor("data", x)
    count = x.shape[:1].numel()
    if count < _LEAST or x.dim() == 0:
        raise ValueError(f"expected at least {_LEAST} data to see an overlap of, got {count}")
    if labels is not None and labels.shape != x.shape[:1]:
        raise ValueError(f"expected {len(x)} labels, got shape {tuple(labels.shape)}")
    codes = encode(program, x, *context, guide=guide)
    return Overlap(
        codes=codes,
        affinities=affinity(codes),
        errors=reconstruction_error(program, x, *context, guide=guide),
        labels=labels,
    )


def _ranks(values: Tensor) -> Tensor:
    """The place of each value in ascending order, (N,)."""
    order = values.argsort()
    return order.argsort().double()
