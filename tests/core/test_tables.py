"""Columns of different kinds, and any distribution of Pyro's in one line."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppl_gen import likelihoods
from ppl_gen.inference import log_evidence, svi_step
from ppl_gen.likelihoods import (
    Bernoulli,
    Gaussian,
    HeteroscedasticGaussian,
    Label,
    Masked,
    Poisson,
    Table,
    of,
)
from ppl_gen.models import vae
from ppl_gen.program import simulate


def people(n: int = 12) -> Tensor:
    """Height, whether they smoke, children, eye colour of four, weight."""
    generator = torch.Generator().manual_seed(0)
    height = torch.randn(n, generator=generator)
    smokes = (torch.rand(n, generator=generator) < 0.3).float()
    children = torch.poisson(torch.full((n,), 1.5), generator=generator)
    eyes = torch.randint(4, (n,), generator=generator).float()
    weight = height + 0.3 * torch.randn(n, generator=generator)
    return torch.stack([height, smokes, children, eyes, weight], 1)


def mixed() -> Table:
    body = Gaussian()
    return Table(
        {
            "height": body,
            "smokes": Bernoulli(),
            "children": Poisson(),
            "eyes": Label(4),
            "weight": body,
        }
    )


def test_each_column_is_scored_by_its_own_likelihood() -> None:
    table = mixed()
    x = people(3)
    own = torch.randn(3, 8)
    body, smokes, children, eyes = own.split([2, 1, 1, 4], -1)
    expected = torch.stack(
        [
            Gaussian()(body[:, 0]).log_prob(x[:, 0]),
            Bernoulli()(smokes[:, 0]).log_prob(x[:, 1]),
            Poisson()(children[:, 0]).log_prob(x[:, 2]),
            Label(4)(eyes).log_prob(x[:, 3]),
            Gaussian()(body[:, 1]).log_prob(x[:, 4]),
        ],
        -1,
    )
    assert table.parameters_per_datum == 8
    d = table(own[:, None].expand(3, 5, 8))
    torch.testing.assert_close(d.log_prob(x), expected)
    wider = d.expand((7, 3, 5))
    torch.testing.assert_close(wider.log_prob(x), expected.expand(7, 3, 5))
    torch.manual_seed(0)
    drawn = d.sample((20_000,))
    assert d.support.check(drawn).all()
    error = drawn.std(0) / 20_000**0.5
    has_mean = ~d.mean.isnan()  # that of a label is none
    assert has_mean.sum(1).tolist() == [4, 4, 4]
    distance = ((drawn.mean(0) - d.mean).abs() / error)[has_mean]
    assert float(distance.max()) < 4.5


@pytest.mark.parametrize(("masked", "engine"), [(False, "eager"), (True, "fx")])
def test_a_vae_of_a_table_is_trained(masked: bool, engine: Any) -> None:
    torch.manual_seed(0)
    likelihood: Any = mixed()
    if masked:
        likelihood = Masked(likelihood)
    program = vae((5,), 2, hidden=(16,), likelihood=likelihood)
    x = people(64)
    if masked:
        x = x.masked_fill(torch.rand(x.shape) < 0.3, torch.nan)
    step = svi_step(program, torch.optim.Adam(program.parameters(), 1e-2), engine=engine)
    bounds = [float(step(x)["elbo"]) for _ in range(30)]
    assert bounds[-1] > bounds[0] + 1
    assert log_evidence(program, None, x, particles=10).value.isfinite().all()
    assert simulate(program, 6).shape == (6, 5)


def test_what_is_missing_in_a_table_is_left_out() -> None:
    own = torch.randn(12, 1, 8).expand(12, 5, 8)
    x = people()
    mask = torch.rand(x.shape) < 0.4
    got = Masked(mixed())(own).log_prob(x.masked_fill(mask, torch.nan))
    torch.testing.assert_close(got, torch.where(mask, 0.0, mixed()(own).log_prob(x)))


def test_a_column_may_take_several_numbers() -> None:
    table = Table([Poisson(), HeteroscedasticGaussian(), Poisson()])
    own = torch.randn(4, 4)
    expected = HeteroscedasticGaussian()(own[:, 1:3]).log_prob(torch.ones(4))
    got = table(own[:, None].expand(4, 3, 4)).log_prob(torch.ones(4, 3))
    torch.testing.assert_close(got[:, 1], expected)


BAD_COLUMNS: dict[str, tuple[int, float, str]] = {
    "half a child": (2, 0.5, "column 'children' in the support of Poisson, .*counts are whole"),
    "grey": (1, 0.5, "column 'smokes' in the support of Bernoulli"),
    "a fifth colour": (3, 4.0, "column 'eyes' in the support of Classes, .*from .* to 4"),
    "not there": (0, torch.nan, r"expected finite data, got NaN.*likelihoods\.Masked"),
}


@pytest.mark.parametrize("wrong", BAD_COLUMNS)
@pytest.mark.parametrize("masked", [False, True])
def test_a_bad_column_is_named(wrong: str, masked: bool) -> None:
    column, value, said = BAD_COLUMNS[wrong]
    x = people()
    x[5, column] = value
    likelihood: Any = mixed()
    if masked:
        likelihood = Masked(likelihood)
    program = vae((5,), 2, hidden=(4,), likelihood=likelihood)
    if masked and wrong == "not there":
        assert log_evidence(program, None, x, particles=2).value.isfinite().all()
        return
    with pytest.raises(ValueError, match=said):
        log_evidence(program, None, x, particles=2)


def test_a_table_says_what_it_takes() -> None:
    with pytest.raises(ValueError, match="a likelihood for each column, got none"):
        Table([])
    with pytest.raises(ValueError, match=r"column 'age', such as Gaussian\(\), got 'normal'"):
        Table({"age": "normal"})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"\(\*batch, 5, 8\), got \(3, 5\).*Shape\(\(5,\), 0, 8\)"):
        mixed()(torch.zeros(3, 5))
    joint = Table([lambda loc: dist.Normal(loc, 1.0).to_event(1)])
    with pytest.raises(ValueError, match="single values, one for each column, got Independent"):
        joint(torch.zeros(3, 1, 1))


class TestOf:
    """Links to the parameters of any distribution."""

    def test_links_are_applied_in_the_order_of_the_parameters(self) -> None:
        gamma = of(dist.Gamma, rate=softplus, concentration=torch.exp)
        own = torch.randn(5, 2)
        x = torch.rand(5)
        expected = dist.Gamma(own[:, 0].exp(), softplus(own[:, 1])).log_prob(x)
        assert gamma(own).log_prob(x).equal(expected)

    @pytest.mark.parametrize(
        ("family", "links"),
        [
            (dist.Bernoulli, ["logits"]),
            (dist.Normal, ["loc", "scale"]),
            (dist.Weibull, ["scale", "concentration"]),
            (dist.NegativeBinomial, ["logits"]),
            (dist.ZeroInflatedPoisson, ["rate", "gate_logits"]),
            (dist.ContinuousBernoulli, ["logits"]),
            (dist.Geometric, ["logits"]),
        ],
    )
    def test_constraints_give_the_links(self, family: Any, links: list[str]) -> None:
        held = {}
        if family is dist.NegativeBinomial:
            held["total_count"] = 3.0
        lifted = of(family, **held)
        assert list(lifted.links) == links
        own = torch.randn(50, len(links)).squeeze(-1)
        d = lifted(own)
        assert d.log_prob(d.sample()).isfinite().all()

    def test_a_parameter_is_held_or_learned(self) -> None:
        learned = of(dist.StudentT, df=nn.Parameter(torch.tensor(3.0)), scale=0.5)
        assert [name for name, _ in learned.named_parameters()] == ["own_df"]
        assert learned(torch.zeros(4)).scale.eq(0.5).all()
        linked = of(dist.Normal, scale=nn.Sequential(nn.Linear(1, 1), nn.Softplus()))
        assert len(list(linked.parameters())) == 2

    @pytest.mark.parametrize(
        ("call", "said"),
        [
            (lambda: of(dist.Gamma, shape=softplus), "links of concentration, rate, .*got one of"),
            (
                lambda: of(dist.Gamma, rate="softplus"),
                "a link for 'rate' of Gamma, .*got 'softplus'",
            ),
            (lambda: of(dist.MultivariateNormal), "single numbers, got 'loc' of Multi.*a vector"),
            (lambda: of(dist.Poisson, rate=1.0), "at least one parameter of Poisson from the dec"),
            (lambda: of(torch.distributions.Normal), "a class of pyro.distributions, got"),
            (lambda: of(softplus), "a class of pyro.distributions, got"),
            (lambda: of(dist.Uniform), "a parameter with a constraint, got 'low' of Uniform"),
        ],
    )
    def test_what_it_cannot_lift(self, call: Any, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            call()

    def test_a_vae_takes_it(self) -> None:
        program = vae((3,), 2, hidden=(4,), likelihood=of(dist.Gamma, concentration=softplus))
        step = svi_step(program, torch.optim.Adam(program.parameters()), engine="fx")
        assert step(torch.rand(8, 3))["elbo"].isfinite()
        with pytest.raises(ValueError, match=r"support of Gamma, .*-1"):
            log_evidence(program, None, -torch.ones(8, 3))


def test_the_shelf_says_how_many_numbers_it_takes() -> None:
    assert likelihoods.parameters_per_datum(mixed()) == 8
    assert likelihoods.parameters_per_value(Masked(mixed())) == 0
    assert likelihoods.parameters_per_datum(Masked(mixed())) == 8
