"""Directions in which an attribute of data changes, and two of them at once on a grid."""

from __future__ import annotations

__all__ = ["Directions", "attribute_directions"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ppl_gen.arguments import expect_tensor
from ppl_gen.counts import expect_at_least, expect_positive
from ppl_gen.inference.codes.coder import decode, expect_codes
from ppl_gen.inference.estimate import Estimate, summarised
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.result import Result

if TYPE_CHECKING:
    import pandas

_LEAST = 2  # codes of each of the four kinds, for an error


@dataclass(frozen=True, eq=False, repr=False)
class Directions(Result):
    """From codes with little of an attribute to codes with much of it, for two attributes.

    Attributes:
        first: d₁ with its standard error, (D,).
        second: d₂, (D,).
        plain_first: The same without regard to the other attribute, (D,).
        plain_second: Likewise, (D,).
        counts: How many codes have little or much of the first (rows) and second attribute, (2, 2).

    Examples:
        >>> codes = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]).repeat(5, 1)
        >>> found = attribute_directions(codes, codes[:, 0], codes[:, 1])
        >>> found.first.value, found.second.value
        (tensor([1., 0.], dtype=torch.float64), tensor([0., 1.], dtype=torch.float64))
    """

    first: Estimate
    second: Estimate
    plain_first: Tensor
    plain_second: Tensor
    counts: Tensor

    def grid(self, z: Tensor, steps: int = 7, reach: float = 1.0) -> Tensor:
        """z + s d₁ + t d₂, (steps², D), s growing to the right and t upwards, row by row.

        Args:
            z: The code in the middle, (D,).
            steps: The number of values of s, and of t.
            reach: s and t go from −reach to reach; from −1/2 to 1/2 is from little to much.

        Raises:
            ValueError: If z is no code of as many dimensions, or a number is out of range.
        """
        expect_at_least(2, steps=steps)
        expect_positive(reach=reach)
        if z.shape != self.first.value.shape:
            raise ValueError(
                f"expected one code of shape {tuple(self.first.value.shape)}, got "
                f"{tuple(z.shape)}; pick a row: codes.mean[0]"
            )
        ticks = torch.linspace(-reach, reach, steps, dtype=z.dtype, device=z.device)
        across = ticks[:, None] * self.first.value.to(z)
        up = ticks.flip(0)[:, None] * self.second.value.to(z)
        return (z + up[:, None] + across[None]).flatten(0, 1)

    def effects(
        self,
        program: Any,
        z: Tensor,
        measures: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]],
        *context: Tensor,
        reach: float = 0.5,
    ) -> dict[str, Estimate]:
        """m(decode(z + r d)) − m(decode(z − r d)), both measures along both directions, (M,) each.

        Where the directions are decoupled, each moves its own measure and leaves the other alone.
        The errors of single codes are 0; `.mean()` has the spread over codes as its
        `sampling_error`.

        Args:
            program: What decodes.
            z: Codes to begin from, (M, D).
            measures: Of the first and the second attribute, from data (M, *shape) to numbers (M,).
            *context: What the program is conditioned on, each of length M.
            reach: r.

        Returns:
            By "first along first", "second along first", and so on.
        """
        expect_codes(z, len(self.first.value))
        expect_positive(reach=reach)
        found = {}
        for name, direction in (("first", self.first.value), ("second", self.second.value)):
            step = reach * direction.to(z)
            ahead = decode(program, z + step, *context)
            behind = decode(program, z - step, *context)
            for measured, measure in zip(("first", "second"), measures, strict=True):
                change = (measure(ahead) - measure(behind)).double()
                exact = torch.zeros_like(change)
                found[f"{measured} along {name}"] = Estimate(change, exact)
        return found

    @property
    def cosines(self) -> tuple[float, float]:
        """Of the angle between d₁ and d₂, and of that between the plain directions."""
        own = torch.cosine_similarity(self.first.value, self.second.value, dim=0)
        plain = torch.cosine_similarity(self.plain_first, self.plain_second, dim=0)
        return float(own), float(plain)

    @property
    def verdict(self) -> Verdict:
        """Whether both directions stand out from their noise.

        Each length is held against that which noise alone would have, √Σ sⱼ². Tags: "lost" where
        one is below three times it; else "found", which passes.
        """
        lost = []
        for name, direction in (("first", self.first), ("second", self.second)):
            noise = float(direction.standard_error.norm())
            if not float(direction.value.norm()) > 3 * noise:
                lost.append(name)
        if lost:
            said = (
                f"the direction of the {' and the '.join(lost)} attribute is lost in its noise: "
                "the codes do not tell it, or there are too few of them"
            )
            return Verdict((Finding("lost", said),), passes=False)
        own, plain = self.cosines
        said = (
            f"both directions stand out; the cosine between them is {own:.2f}, and {plain:.2f} "
            "where the attributes' own correlation is left in"
        )
        return Verdict((Finding("found", said),), passes=True)

    @property
    def headline(self) -> str:
        """How many codes there are of each kind."""
        (low_low, low_high), (high_low, high_high) = self.counts.tolist()
        return (
            f"codes with little or much of the first and the second attribute: {low_low}, "
            f"{low_high}, {high_low}, {high_high}"
        )

    def table(self) -> pandas.DataFrame:
        """A row for each direction: its length, with the error of the entry along it."""
        return summarised({"first": _length(self.first), "second": _length(self.second)})

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each latent: both directions with their errors, and the plain ones."""
        import pandas

        columns = {}
        for name, direction in (("first", self.first), ("second", self.second)):
            columns[name] = direction.value.cpu().numpy()
            columns[f"{name} error"] = direction.standard_error.cpu().numpy()
        columns["plain first"] = self.plain_first.cpu().numpy()
        columns["plain second"] = self.plain_second.cpu().numpy()
        return pandas.DataFrame(columns)


def attribute_directions(codes: Tensor, first: Tensor, second: Tensor) -> Directions:
    """d₁ = ½ Σ_b (E[z | a₁ = 1, a₂ = b] − E[z | a₁ = 0, a₂ = b]), and d₂ likewise.

    The four kinds of codes count alike, as in subsets drawn to be balanced, over all of which this
    is the average: where two attributes go together, as smiles and open mouths do, the plain
    difference of means holds some of the other one.

    Args:
        codes: Codes (N, D), such as `encode(program, x).mean`.
        first: The first attribute of each, (N,): true or false, 0 or 1, or numbers that are cut at
            their median.
        second: The second attribute, (N,).

    Raises:
        ValueError: If there is not a number for each code, or one of the four kinds has fewer than
            two codes.

    Examples:
        >>> codes = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]).repeat(5, 1)
        >>> found = attribute_directions(codes, first=codes[:, 0], second=codes[:, 1])
        >>> found.first.value
        tensor([1., 0.], dtype=torch.float64)

    Reference:
        White (2016), Sampling generative networks, sections 3.2 and 3.3.
    """
    expect_codes(codes)
    has_first = _halved("first", first, len(codes))
    has_second = _halved("second", second, len(codes))
    means = codes.new_zeros((2, 2, codes.shape[1]), dtype=torch.float64)
    variances = torch.zeros_like(means)
    counts = torch.zeros(2, 2, dtype=torch.long)
    for i in (0, 1):
        for j in (0, 1):
            kind = codes[(has_first == i) & (has_second == j)].double()
            counts[i, j] = len(kind)
            if len(kind) < _LEAST:
                raise ValueError(
                    f"expected at least {_LEAST} codes with {_amount(i)} of the first and "
                    f"{_amount(j)} of the second attribute, got {len(kind)}; give more data, or "
                    "attributes that are less alike"
                )
            means[i, j] = kind.mean(0)
            variances[i, j] = kind.var(0) / len(kind)
    error = variances.sum((0, 1)).sqrt() / 2
    along_first = (means[1] - means[0]).mean(0)
    along_second = (means[:, 1] - means[:, 0]).mean(0)
    return Directions(
        first=Estimate(along_first, error),
        second=Estimate(along_second, error),
        plain_first=_difference(codes, has_first),
        plain_second=_difference(codes, has_second),
        counts=counts,
    )


def _halved(name: str, attribute: Tensor, n: int) -> Tensor:
    """Whether each datum has much of an attribute, (N,)."""
    expect_tensor(f"the {name} attribute", attribute)
    if attribute.shape != (n,):
        raise ValueError(
            f"expected a number of the {name} attribute for each of {n} codes, got shape "
            f"{tuple(attribute.shape)}"
        )
    if attribute.dtype == torch.bool:
        return attribute
    if not bool(attribute.isfinite().all()):
        raise ValueError(f"expected finite numbers of the {name} attribute, got NaN or infinity")
    is_binary = bool(((attribute == 0) | (attribute == 1)).all())
    if is_binary:
        return attribute == 1
    return attribute > attribute.median()


def _difference(codes: Tensor, has: Tensor) -> Tensor:
    """The plain difference of means, (D,)."""
    return (codes[has].mean(0) - codes[~has].mean(0)).double()


def _amount(i: int) -> str:
    if i:
        return "much"
    return "little"


def _length(direction: Estimate) -> Estimate:
    """‖d‖ with the error of its entry along d."""
    length = direction.value.norm()
    unit = direction.value / length
    error = (unit * direction.standard_error).norm()
    return Estimate(length, error)
