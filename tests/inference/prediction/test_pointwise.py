"""Programs at many draws: at once where vmap follows, and log likelihoods with the discrete latents
summed out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.ops.indexing import Vindex
from torch import Tensor

from ppl_gen.contexts import store_kept
from ppl_gen.inference.engine.vectorised import at_each
from ppl_gen.inference.prediction.pointwise import ancestral, log_likelihood, replicated

X = torch.tensor([0.3, -1.0, 2.0, 0.5, 1.5])


def normal(x: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    twice = pyro.deterministic("twice", 2 * mu)
    with pyro.plate("data", x.shape[0]):
        own = pyro.deterministic("own", mu + x)
        pyro.sample("x", dist.Normal(twice + 0 * own, 1.0), obs=x)


def waiting(x: Tensor) -> None:
    """Torch draws exponentials in place, which vmap does not follow."""
    rate = pyro.sample("mu", dist.Normal(0.0, 1.0)).exp()
    with pyro.plate("data", x.shape[0]):
        pyro.sample("x", dist.Exponential(rate), obs=x.abs())


def pointwise(
    model: Callable[..., Any], *args: Tensor, **latents: Tensor
) -> tuple[Tensor, tuple[str, ...]]:
    """log p(x | z) at each of the draws, and the plates of its axes."""
    found = log_likelihood(model, args, {name: value[0] for name, value in latents.items()}, ["x"])
    return at_each(found.function, latents)["x"], found.plates["x"]


class TestAtEach:
    @pytest.mark.parametrize(("model", "at_once"), [(normal, True), (waiting, False)])
    def test_replicated_data(self, model: Callable[..., Any], at_once: bool) -> None:
        calls = 0

        def counted(x: Tensor) -> None:
            nonlocal calls
            calls += 1
            model(x)

        mu = torch.linspace(-1, 1, 2000)
        new = at_each(replicated(counted, (X,), ["x"]), {"mu": mu})["x"]
        assert (calls < 5) == at_once
        assert new.shape == (2000, 5)
        assert len(new.unique()) > 9990  # two of float32 may agree
        standard = new - 2 * mu[:, None] if at_once else new * mu.exp()[:, None] - 1
        assert abs(float(standard.mean())) < 4 / 100
        assert abs(float(standard.var()) - 1) < 4 * (2 if at_once else 8) ** 0.5 / 100

    def test_the_prior(self) -> None:
        drawn = at_each(ancestral(normal, (X,)), {"": torch.arange(1000)})
        assert {name: value.shape[1:] for name, value in drawn.items()} == {
            "mu": (),
            "twice": (),
            "own": (5,),
            "x": (5,),
        }
        torch.testing.assert_close(drawn["twice"], 2 * drawn["mu"])
        assert abs(float(drawn["mu"].mean())) < 4 * 10 / 1000**0.5

    def test_chunks_and_a_loop_give_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        mu = torch.randn(7)
        whole, _ = pointwise(normal, X, mu=mu)
        monkeypatch.setattr("ppl_gen.memory.VECTORISED", 10)
        torch.testing.assert_close(pointwise(normal, X, mu=mu)[0], whole)
        monkeypatch.setattr("ppl_gen.inference.engine.vectorised.vmap", None)
        torch.testing.assert_close(pointwise(normal, X, mu=mu)[0], whole)

    def test_the_param_store_is_kept(self) -> None:
        pyro.param("mine", torch.ones(()))
        with store_kept():
            pyro.param("other", torch.ones(()))
            pyro.param("mine")
        assert list(pyro.get_param_store().keys()) == ["mine"]


class TestLogLikelihood:
    def test_by_hand_and_at_once(self) -> None:
        mu = torch.randn(4)
        got, plates = pointwise(normal, X, mu=mu)
        assert plates == ("data",)
        torch.testing.assert_close(got, dist.Normal(2 * mu[:, None], 1.0).log_prob(X))

    def test_scales_are_ignored_and_masks_are_not(self) -> None:
        def part(x: Tensor) -> None:
            mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
            with (
                pyro.plate("data", 5),
                pyro.poutine.scale(scale=7.0),
                pyro.poutine.mask(mask=x > 0),
            ):
                pyro.sample("x", dist.Normal(mu, 1.0), obs=x)

        mu = torch.randn(4)
        wanted = dist.Normal(mu[:, None], 1.0).log_prob(X) * (X > 0)
        torch.testing.assert_close(pointwise(part, X, mu=mu)[0], wanted)

    def test_states_inside_one_of_two_plates(self) -> None:
        """A class for each datum, three features: the features are added up before the classes are
        summed out.
        """
        x, weights = (torch.rand(4, 3) < 0.5).float(), torch.tensor([0.3, 0.7])
        calls = 0

        def classes(x: Tensor) -> None:
            nonlocal calls
            calls += 1
            p = pyro.sample("p", dist.Beta(1.0, 1.0).expand([2, 3]).to_event(2))
            with pyro.plate("rows", x.shape[0], dim=-2):
                k = pyro.sample("k", dist.Categorical(weights), infer={"enumerate": "parallel"})
                with pyro.plate("features", 3, dim=-1):
                    pyro.sample("x", dist.Bernoulli(Vindex(p)[k, torch.arange(3)]), obs=x)

        p = torch.rand(6, 2, 3)
        got, plates = pointwise(classes, x, p=p)
        assert plates == ("rows",)
        assert calls < 6
        terms = dist.Bernoulli(p[:, None]).log_prob(x[:, None]).sum(-1) + weights.log()
        torch.testing.assert_close(got, terms.logsumexp(-1))

    def test_one_discrete_site_hanging_on_another(self) -> None:
        a = torch.tensor([[0.2, 0.8], [0.6, 0.4]])

        def nested(x: Tensor) -> None:
            mu = pyro.sample("mu", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            with pyro.plate("data", 5):
                j = pyro.sample("j", dist.Categorical(torch.tensor([0.5, 0.5])))
                k = pyro.sample("k", dist.Categorical(a[j]))
                pyro.sample("x", dist.Normal(Vindex(mu)[..., k] + j, 1.0), obs=x)

        mu = torch.randn(4, 2)
        terms = [
            (0.5 * a[j, k]).log() + dist.Normal(mu[:, k, None] + j, 1.0).log_prob(X)
            for j in (0, 1)
            for k in (0, 1)
        ]
        torch.testing.assert_close(pointwise(nested, X, mu=mu)[0], torch.stack(terms).logsumexp(0))

    def test_a_discrete_site_beside_leaves_it_alone(self) -> None:
        def beside(x: Tensor) -> None:
            mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
            pyro.sample("k", dist.Bernoulli(0.5))
            with pyro.plate("data", 5):
                pyro.sample("x", dist.Normal(mu, 1.0), obs=x)

        mu = torch.randn(4)
        torch.testing.assert_close(
            pointwise(beside, X, mu=mu)[0], dist.Normal(mu[:, None], 1.0).log_prob(X)
        )

    def test_a_single_datum_keeps_its_axis(self) -> None:
        def one(x: Tensor) -> None:
            mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
            with pyro.plate("data", 1):
                k = pyro.sample("k", dist.Bernoulli(0.5))
                pyro.sample("x", dist.Normal(mu + k, 1.0), obs=x)

        mu = torch.randn(4)
        terms = [
            dist.Normal(mu[:, None] + k, 1.0).log_prob(X[:1]) - torch.tensor(2.0).log()
            for k in (0, 1)
        ]
        got, plates = pointwise(one, X[:1], mu=mu)
        assert plates == ("data",)
        torch.testing.assert_close(got, torch.stack(terms).logsumexp(0))

    @pytest.mark.parametrize(
        ("outside", "said"),
        [(True, "in plates of 'x', got 'k'$"), (False, "got 'k', which 'w' depend on as well")],
    )
    def test_a_state_that_joins_observations(self, outside: bool, said: str) -> None:
        def shared(x: Tensor) -> None:
            mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
            k = pyro.sample("k", dist.Bernoulli(0.5)) if outside else None
            with pyro.plate("data", 5):
                k = pyro.sample("k", dist.Bernoulli(0.5)) if k is None else k
                pyro.sample("x", dist.Normal(mu + k, 1.0), obs=x)
                pyro.sample("w", dist.Normal(mu - (0 if outside else k), 1.0), obs=x)

        with pytest.raises(ValueError, match=said):
            pointwise(shared, X, mu=torch.randn(4))
