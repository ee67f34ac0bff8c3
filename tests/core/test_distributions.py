"""Every class of Pyro's distributions as likelihood, prior and guide, in every column of a table.

A cell works, with numbers that are right, or refuses with what was expected, got, and a remedy.
"""

from __future__ import annotations

import pytest
from distribution_table import COLUMNS, COMPILED, ROLES, Case, tried
from distributions import ROWS, classes

# One class of each kind: scalars, half-lines, intervals, counts, vectors, simplices, labels,
# angles, mixtures, folded and transformed ones, atoms, and some that refuse.
SAMPLE = (
    "Beta", "Categorical", "Delta", "Dirichlet", "FoldedDistribution", "GammaPoisson",
    "GaussianMRF", "MixtureSameFamily", "Multinomial", "MultivariateNormal", "Normal",
    "OneHotCategorical", "TransformedDistribution", "TruncatedPolyaGamma", "VonMises",
)  # fmt: skip
CHEAP = ("svi_step, eager", "log_evidence", "elbo")


def _fails(name: str, role: str, columns: tuple[str, ...]) -> list[str]:
    """The cells, of a class in a role, that crash or are wrong."""
    case = Case(name, role)
    failing = []
    for column in columns:
        cell = tried(case, column)
        if cell.outcome not in ("works", "refuses"):
            failing.append(f"{column} {cell.outcome}: {cell.note}")
    return failing


def test_every_class_with_a_density_has_a_row() -> None:
    assert classes() == sorted(ROWS)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", SAMPLE)
def test_cells_of_a_sample(name: str, role: str) -> None:
    assert not _fails(name, role, CHEAP)


@pytest.mark.long
@pytest.mark.parametrize("name", ["MixtureSameFamily", "TransformedDistribution", "VonMises"])
def test_hmc_moves_in_the_support_of_a_prior_that_names_a_larger_one(name: str) -> None:
    cell = tried(Case(name, "prior"), "hmc")
    assert cell.outcome == "works", cell.note


@pytest.mark.slow
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", ROWS)
def test_cells(name: str, role: str) -> None:
    columns = [c for c in COLUMNS if c != "svi_step, inductor" or name in COMPILED]
    assert not _fails(name, role, tuple(columns))
