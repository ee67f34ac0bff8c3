"""The columns of a table: their names, and the units that standardised numbers come from."""

from __future__ import annotations

__all__ = ["Columns"]

from dataclasses import dataclass

from torch import Tensor

from ppl_gen.arguments import expect_tensor


@dataclass(frozen=True, eq=False, repr=False)
class Columns:
    """x = (r − m) / s of a column's own numbers r, and the way back, r = m + s x.

    Attributes:
        names: Of the columns, D of them.
        mean: m, the mean of each column's training rows in its own unit, (D,), in double precision.
        sd: s, their standard deviation, (D,), likewise.

    Examples:
        >>> units = Columns(("cm", "kg"), torch.tensor([170.0, 70.0]), torch.tensor([10.0, 5.0]))
        >>> units.standardised(torch.tensor([[180.0, 60.0]]))
        tensor([[ 1., -2.]])
        >>> units.in_units(torch.zeros(1, 2))
        tensor([[170.,  70.]], dtype=torch.float64)
    """

    names: tuple[str, ...]
    mean: Tensor
    sd: Tensor

    def __repr__(self) -> str:
        return f"Columns({', '.join(self.names)})"

    @property
    def log_units(self) -> float:
        """Σ log s: log p(r) = log p(x) − Σ log s, in nats per datum.

        It is what turns the log-density of standardised data into that in the columns' own units.
        """
        return float(self.sd.log().sum())

    def standardised(self, rows: Tensor) -> Tensor:
        """(r − m) / s in single precision, as programs take it.

        Args:
            rows: r (*batch, D), in the columns' own units, NaN where a number is missing.

        Raises:
            ValueError: If rows have another number of columns.
        """
        self._check(rows)
        mean = self.mean.to(rows.device)
        sd = self.sd.to(rows.device)
        return ((rows.double() - mean) / sd).float()

    def in_units(self, x: Tensor) -> Tensor:
        """m + s x in double precision: data, draws or reconstructions in the columns' own units.

        Args:
            x: Standardised (*batch, D).

        Raises:
            ValueError: If x has another number of columns.
        """
        self._check(x)
        return x.double() * self.sd.to(x.device) + self.mean.to(x.device)

    def _check(self, x: Tensor) -> None:
        expect_tensor("rows", x)
        if x.shape[-1:] != self.mean.shape:
            raise ValueError(
                f"expected rows of {len(self.names)} columns ({', '.join(self.names[:5])}, ...), "
                f"got shape {tuple(x.shape)}; pass (N, {len(self.names)})"
            )
