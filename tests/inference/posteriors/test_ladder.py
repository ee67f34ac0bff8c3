"""A ladder of guides is climbed until a rule is content, and never further."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from posteriors import rough
from programs import digits

from ppl_gen import guides
from ppl_gen.inference import (
    Amortised,
    ByDatum,
    GapBelow,
    GaussianMixtureByDatum,
    GuideChoice,
    KHatBelow,
    LowRankByDatum,
    choose_guide,
    full_covariance,
    same_family,
)
from ppl_gen.inference.posteriors.ladder import AsItIs
from ppl_gen.models import toy, vae

N = 8
STEPS = 200


def turned() -> toy.PPCA:
    """A PPCA of 4 latents whose axes are turned, so that its posterior is correlated."""
    straight = toy.PPCA.maximum_likelihood(digits().x.flatten(1), 4)
    generator = torch.Generator().manual_seed(0)
    turn, _ = torch.linalg.qr(torch.randn(4, 4, generator=generator))
    scales = torch.tensor([3.0, 1.0, 0.5, 0.2])
    return toy.PPCA((straight.weight * scales) @ turn, straight.loc, straight.scale)


@pytest.fixture(scope="module")
def climbed() -> GuideChoice:
    program = turned()
    x = digits().x[:N].flatten(1)
    ladder = (
        AsItIs(),
        ByDatum("diagonal", same_family, steps=STEPS),
        ByDatum("full", full_covariance, steps=STEPS),
        ByDatum("never", same_family, steps=STEPS),
    )
    return choose_guide(
        program, x, ladder=ladder, guide=rough(program), until=GapBelow(0.1), engine="fx", seed=0
    )


@pytest.mark.long
class TestPPCA:
    """A full covariance is exact there, and the evidence is known."""

    def test_it_stops_at_the_first_rung_that_is_enough(self, climbed: GuideChoice) -> None:
        assert [rung.name for rung in climbed.rungs] == ["as it is", "diagonal", "full"]
        assert climbed.reached
        assert climbed.verdict.tags == ("reached",)
        assert climbed.guide is climbed.rungs[2].guide
        assert float(climbed.rungs[2].bad.value) == 0

    def test_each_rung_is_nearer_than_the_one_below(self, climbed: GuideChoice) -> None:
        gaps = [float(rung.gap.value) for rung in climbed.rungs]
        assert gaps[0] > gaps[1] > gaps[2]
        table = climbed.table()
        assert table["chosen"].tolist() == [False, False, True]
        assert (table["elbo error"] > 0).all()

    def test_the_last_bound_is_the_evidence(self, climbed: GuideChoice) -> None:
        exact = turned().exact_log_evidence(digits().x[:N].flatten(1))
        assert float((climbed.rungs[2].elbo.value - exact).abs().max()) < 0.1
        assert len(climbed.to_pandas()) == N

    def test_where_none_is_enough_the_best_is_chosen(self) -> None:
        program = turned()
        x = digits().x[:2].flatten(1)
        found = choose_guide(
            program,
            x,
            ladder=[AsItIs()],
            guide=rough(program),
            until=GapBelow(1e-6),
            particles=100,
            seed=0,
        )
        assert not found.reached
        assert "not-reached" in found.verdict.tags
        assert found.verdict.passes is False

    def test_a_known_evidence_is_what_gaps_are_measured_by(self) -> None:
        program = turned()
        x = digits().x[:2].flatten(1)
        found = choose_guide(
            program, x, ladder=[AsItIs()], guide=rough(program), particles=100, seed=0
        )
        higher = choose_guide(
            program,
            x,
            ladder=[AsItIs()],
            guide=rough(program),
            particles=100,
            seed=0,
            evidence=found.rungs[0].evidence + 1.0,
        )
        difference = float(higher.rungs[0].gap.value) - float(found.rungs[0].gap.value)
        assert difference == pytest.approx(1.0, abs=1e-5)


class TestFamilies:
    def test_low_rank_begins_at_the_moments_of_the_guide(self) -> None:
        q = dist.Normal(torch.randn(3, 10), torch.rand(3, 10) + 0.5).to_event(1)
        parameters, make = LowRankByDatum(3)(q)
        made = make(**parameters)
        assert made.mean.equal(q.mean)
        torch.testing.assert_close(made.stddev, q.stddev, rtol=0.1, atol=0)
        assert made.covariance_matrix.triu(1).abs().max() > 0

    def test_a_mixture_begins_about_the_guide(self) -> None:
        q = dist.Normal(torch.randn(3, 10), torch.rand(3, 10) + 0.5).to_event(1)
        parameters, make = GaussianMixtureByDatum(4)(q)
        assert parameters["loc"].shape == (3, 4, 10)
        made = make(**parameters)
        assert made.batch_shape == (3,)
        assert float(((made.mean - q.mean) / q.stddev).abs().max()) < 0.3
        torch.testing.assert_close(made.variance.sqrt(), q.stddev, rtol=0.1, atol=0)

    def test_scalars_have_no_covariance(self) -> None:
        q = dist.Normal(torch.randn(3), 1.0)
        for family in (LowRankByDatum(), GaussianMixtureByDatum()):
            parameters, _ = family(q)
            assert parameters.keys() == {"loc", "scale"}


@pytest.mark.long
def test_a_network_is_trained_and_the_program_left_alone() -> None:
    torch.manual_seed(0)
    program = vae((4,), 2, hidden=(8,))
    x = torch.rand(40, 4).round()
    before = [p.clone() for p in program.parameters()]
    encoder = guides.flow(lambda outputs: torch.nn.Linear(4, outputs), 2, hidden=(8,), context=4)
    weights = encoder.net.weight.clone()
    slots = (program.encoder, program.prior, program.decoder, program.likelihood)
    ladder = [
        Amortised("flow", encoder, [(x,)], epochs=3),
        Amortised("semi", guides.SemiAmortised(*slots), [(x,)]),
    ]
    found = choose_guide(
        program, x, ladder=ladder, until=lambda rung: False, particles=100, engine="eager", seed=0
    )
    assert [rung.name for rung in found.rungs] == ["flow", "semi"]
    assert not encoder.net.weight.equal(weights)
    for old, new in zip(before, program.parameters(), strict=True):
        assert new.equal(old)
        assert new.requires_grad


class TestInput:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"ladder": ()}, "expected a ladder of guides"),
            ({"ladder": [full_covariance]}, "ByDatum"),
            ({"until": 0.7}, "expected until to be a rule"),
            ({"particles": 20}, "particles of at least 100"),
        ],
    )
    def test_what_is_no_ladder_rule_or_number(self, options: Any, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            choose_guide(vae((4,), 2), torch.ones(5, 4), **options)

    def test_rules_and_rungs_are_checked_when_made(self) -> None:
        with pytest.raises(ValueError, match="from 0 to 1"):
            KHatBelow(2.0)
        with pytest.raises(ValueError, match="above 0"):
            GapBelow(0.0)
        with pytest.raises(ValueError, match="steps"):
            ByDatum("none", full_covariance, steps=0)
        with pytest.raises(ValueError, match="rank"):
            LowRankByDatum(0)

    def test_a_network_for_several_latents(self) -> None:
        class Two:
            def model(self, x: Any = None, *, n: int = 1) -> None:
                with pyro.plate("data", len(x)):
                    a = pyro.sample("a", dist.Normal(0.0, 1.0))
                    b = pyro.sample("b", dist.Normal(0.0, 1.0))
                    pyro.sample("x", dist.Normal(a + b, 1.0), obs=x)

            def guide(self, x: Any) -> None:
                with pyro.plate("data", len(x)):
                    pyro.sample("a", dist.Normal(torch.zeros(len(x)), 1.0))
                    pyro.sample("b", dist.Normal(torch.zeros(len(x)), 1.0))

        rung = Amortised("flow", torch.nn.Linear(1, 2), [])
        with pytest.raises(ValueError, match="one latent"):
            choose_guide(Two(), torch.zeros(5), ladder=[rung])
