"""The semi-supervised VAE: a mixture of linear Gaussians with exact evidence, and errors."""

from __future__ import annotations

import re
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, TraceEnum_ELBO
from torch import Tensor, nn

from ppl_gen.guides import Classifier, DiagonalGaussian
from ppl_gen.inference import log_evidence, svi_step
from ppl_gen.inference.fitting.objectives import Enumerated
from ppl_gen.inference.prediction.labels import accuracy, label_probabilities
from ppl_gen.labels import Revealed, few_labels, revealed
from ppl_gen.likelihoods import Gaussian
from ppl_gen.models import VAE, SemiSupervisedVAE, StackedVAE, ss_vae, vae
from ppl_gen.nn import Condition
from ppl_gen.priors import Labels, StandardNormal
from ppl_gen.program import simulate

NOISE = 0.5
CENTRES = torch.tensor([[-2.0, 0.0], [2.0, 0.5], [0.0, 3.0]])
PRIOR = torch.tensor([0.5, 0.3, 0.2])


def mixture() -> SemiSupervisedVAE:
    """y ~ 3 classes, z ~ N(0, 1), x ~ N((z, z) + centre of y, 0.5² I), with a rough guide."""
    decoder = nn.Linear(1 + 3, 2)
    decoder.weight.data = torch.cat([torch.ones(2, 1), CENTRES.T], -1)
    decoder.bias.data.zero_()
    encoder = nn.Linear(2 + 3, 2)
    slope = 1 / (2 + NOISE**2)
    encoder.weight.data.zero_()
    encoder.weight.data[0, :2] = slope
    encoder.weight.data[0, 2:] = -slope * CENTRES.sum(-1)
    encoder.bias.data = torch.tensor([0.0, -0.6])
    classifier = nn.Linear(2, 3)
    classifier.weight.data = CENTRES / 2
    classifier.bias.data.zero_()
    labels = Labels(3, learned=True)
    labels.logits.data = PRIOR.log() + 1.0
    return SemiSupervisedVAE(
        labels,
        StandardNormal(1),
        Condition(decoder, 3),
        Gaussian(NOISE),
        Classifier(classifier),
        DiagonalGaussian(Condition(encoder, 3)),
    )


def by_class(x: Tensor) -> Tensor:
    """log p(x | k), (N, 3)."""
    covariance = torch.ones(2, 2) + NOISE**2 * torch.eye(2)
    return dist.MultivariateNormal(CENTRES, covariance).log_prob(x[:, None])


@pytest.fixture
def seen() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    x = simulate(mixture(), 12)
    return x, torch.tensor([0, -1, 2, -1, 1, -1, -1, -1, -1, 0, -1, -1])


def test_the_evidence_is_exact_with_the_label_and_without(seen: tuple[Tensor, Tensor]) -> None:
    x, y = seen
    classes = by_class(x)
    summed = (classes + PRIOR.log()).logsumexp(-1)
    given = torch.where(y < 0, summed, classes.gather(-1, y.clamp(min=0)[:, None])[:, 0])
    for exact, context in ((summed, []), (summed, [torch.full_like(y, -1)]), (given, [y])):
        found = log_evidence(mixture(), None, x, *context, particles=4000, seed=0)
        error = found.standard_error
        assert bool(((found.value - exact).abs() < 4 * error + error**2).all())
        assert float(error.max()) < 0.2


def test_draws_are_of_the_class_that_is_asked_for() -> None:
    y = torch.tensor([0, 1, 2]).repeat_interleave(400)
    torch.manual_seed(0)
    x = simulate(mixture(), len(y), y)
    error = (1 + NOISE**2) ** 0.5 / 400**0.5
    for k, centre in enumerate(CENTRES):
        assert float((x[y == k].mean(0) - centre).abs().max()) < 4 * error


def bound_by_hand(program: Any, x: Tensor, y: Tensor, alpha: float, draws: int) -> Tensor:
    """Kingma et al. (2014), eq. 6 to 9, without the constant log p(y) of labelled data."""
    log_q = program.classifier(x).logits.log_softmax(-1)
    bounds = []
    for k in range(3):
        q = program.encoder(x, torch.full_like(y, k))
        z = q.sample((draws,))
        code = torch.full_like(y, k).expand(draws, -1)
        log_x = program.likelihood(program.decoder(z, code)).log_prob(x).sum(-1)
        log_z = program.prior().log_prob(z) - q.log_prob(z)
        bounds.append((log_x + log_z).mean(0))
    by_label = torch.stack(bounds, -1)
    unknown = (log_q.exp() * (by_label + PRIOR.log() - log_q)).sum(-1)
    label = y.clamp(min=0)[:, None]
    known = by_label.gather(-1, label)[:, 0] + alpha * log_q.gather(-1, label)[:, 0]
    return torch.where(y < 0, unknown, known)


@pytest.mark.parametrize("alpha", [0.0, 3.0])
@torch.no_grad()
def test_the_objective_is_that_of_the_paper(seen: tuple[Tensor, Tensor], alpha: float) -> None:
    x, y = seen
    program = mixture()
    torch.manual_seed(0)
    found = []
    for _ in range(20):
        elbo = Enumerated(labels=alpha, num_particles=200)
        found.append(-elbo.loss(program.model, program.guide, x, y))
    expected = float(bound_by_hand(program, x, y, alpha, 50_000).sum())
    spread = torch.tensor(found)
    assert abs(float(spread.mean()) - expected) < 4 * float(spread.std()) / 20**0.5
    assert float(spread.std()) < 1


def test_without_weight_it_is_pyros_trace_enum_elbo(seen: tuple[Tensor, Tensor]) -> None:
    """The same numbers from the same draws, gradients included."""
    gradients = {}
    losses = {}
    for kind in (Enumerated, TraceEnum_ELBO):
        program = mixture()
        torch.manual_seed(0)
        loss = kind(max_plate_nesting=1).differentiable_loss(program.model, program.guide, *seen)
        loss.backward()
        losses[kind] = loss.item()
        gradients[kind] = [p.grad for p in program.parameters()]
    assert losses[Enumerated] == pytest.approx(losses[TraceEnum_ELBO], rel=1e-5)
    for ours, pyros in zip(*gradients.values(), strict=True):
        torch.testing.assert_close(ours, pyros, rtol=1e-3, atol=1e-4)


@pytest.mark.long
def test_an_engine_gives_the_numbers_of_another(seen: tuple[Tensor, Tensor]) -> None:
    found = {}
    for engine in ("eager", "fx"):
        torch.manual_seed(0)
        program = ss_vae((2,), 2, classes=3, hidden=(8,), likelihood=Gaussian())
        optimizer = torch.optim.Adam(program.parameters(), 0.01)
        step = svi_step(program, optimizer, Enumerated(labels=2.0), engine=engine)
        found[engine] = torch.stack([step(*seen)["objective"] for _ in range(4)])
    torch.testing.assert_close(found["fx"], found["eager"])


def test_plain_svi_trains_it(seen: tuple[Tensor, Tensor]) -> None:
    pyro.clear_param_store()
    torch.manual_seed(0)
    program = ss_vae((2,), 2, classes=3, hidden=(8,), likelihood=Gaussian())
    before = [p.clone() for p in program.parameters()]
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    svi = SVI(program.model, program.guide, pyro.optim.Adam({"lr": 1e-2}), elbo)
    losses = [svi.step(*seen) for _ in range(40)]
    trained = zip(before, program.parameters(), strict=True)
    assert all(not torch.equal(old, new) for old, new in trained if new.requires_grad)
    assert sum(losses[-5:]) < sum(losses[:5])
    pyro.clear_param_store()


def test_a_first_layer_is_linear_in_data_and_labels_apart() -> None:
    """The same numbers as where each datum is repeated for each label."""
    for net in (nn.Linear(5 + 3, 2), nn.Sequential(nn.Linear(5 + 3, 4), nn.Tanh())):
        conditioned = Condition(net, 3)
        v = torch.randn(6, 5)
        y = torch.tensor([0, 2, -1])[:, None]
        repeated = conditioned(v.expand(3, 6, 5), y.expand(3, 6))
        torch.testing.assert_close(conditioned(v, y), repeated)
    shuffled = Condition(nn.Sequential(nn.Flatten(0, 1), nn.Linear(5 + 3, 2)), 3)
    assert shuffled(v, y).shape == (18, 2)


def test_a_known_label_has_all_the_mass() -> None:
    logits = torch.randn(2, 4)
    d = Revealed(logits, torch.tensor([-1, 3])).expand([5, 2])
    torch.testing.assert_close(d.probs[0, 0], logits[0].softmax(-1))
    assert d.probs[0, 1].tolist() == [0, 0, 0, 1]
    torch.testing.assert_close(
        d.log_revealed[4], torch.stack([torch.zeros(()), logits[1].log_softmax(-1)[3]])
    )
    assert d.sample()[:, 1].tolist() == [3] * 5
    assert revealed(dist.Categorical(logits=logits), None).logits.shape == (2, 4)


def test_accuracy_is_that_of_the_classifier(seen: tuple[Tensor, Tensor]) -> None:
    x, y = seen
    program = mixture()
    probabilities = label_probabilities(program, x, chunk=5)
    torch.testing.assert_close(probabilities, (x @ CENTRES.T / 2).softmax(-1))
    known = y >= 0
    right = (probabilities.argmax(-1) == y)[known]
    found = accuracy(program, x, y)
    assert (float(found.value), found.count) == (float(right.double().mean()), 4)


def test_as_many_labels_of_each_class_are_kept() -> None:
    y = torch.tensor([0] * 50 + [1] * 30 + [2] * 4 + [-1] * 6)
    few = few_labels(y, 17, seed=1)
    counts = [int((few == k).sum()) for k in range(3)]
    assert sum(counts) == 17
    assert counts[2] == 4
    assert abs(counts[0] - counts[1]) <= 1
    assert bool(((few == y) | (few == -1)).all())
    assert torch.equal(few, few_labels(y, 17, seed=1))
    assert not torch.equal(few, few_labels(y, 17, seed=2))


# What stands below the mixture: x ~ N(A z1, 0.4² I) in three dimensions.
SLOPES = torch.tensor([[1.0, 0.2], [-0.3, 0.8], [0.5, 0.5]])
BELOW = 0.4


def stacked() -> StackedVAE:
    """The mixture of `mixture()` as a prior of z1, with the posterior of a wide prior as guide."""
    decoder = nn.Linear(2, 3, bias=False)
    decoder.weight.data = SLOPES
    precision = SLOPES.T @ SLOPES / BELOW**2 + 0.2 * torch.eye(2)
    encoder = nn.Linear(3, 4)
    encoder.weight.data.zero_()
    encoder.weight.data[:2] = torch.linalg.solve(precision, SLOPES.T) / BELOW**2
    # Wider than the posterior, so that weights have a variance.
    deviations = precision.inverse().diagonal().sqrt()
    encoder.bias.data = torch.cat([torch.zeros(2), (1.2 * deviations).log()])
    below = VAE(StandardNormal(2), decoder, Gaussian(BELOW), DiagonalGaussian(encoder))
    return StackedVAE(below, mixture())


def test_the_evidence_of_a_stack_is_exact_with_the_label_and_without() -> None:
    torch.manual_seed(0)
    x = simulate(stacked(), 12)
    y = torch.tensor([0, -1, 2, -1, 1, -1, -1, -1, -1, 0, -1, -1])
    of_codes = torch.ones(2, 2) + NOISE**2 * torch.eye(2)
    covariance = SLOPES @ of_codes @ SLOPES.T + BELOW**2 * torch.eye(3)
    by_label = dist.MultivariateNormal(CENTRES @ SLOPES.T, covariance).log_prob(x[:, None])
    summed = (by_label + PRIOR.log()).logsumexp(-1)
    given = torch.where(y < 0, summed, by_label.gather(-1, y.clamp(min=0)[:, None])[:, 0])
    for exact, context in ((summed, []), (given, [y])):
        found = log_evidence(stacked(), None, x, *context, particles=3000, seed=0)
        error = found.standard_error
        assert bool(((found.value - exact).abs() < 4 * error + error**2).all())
        assert float(error.max()) < 0.2


def test_a_stack_is_fitted_to_codes_of_a_model_held_fast() -> None:
    """M2 gets the gradients that it gets from the same codes by itself; M1 is left as it was."""
    program = stacked()
    program.below.requires_grad_(False)
    alone = mixture()
    torch.manual_seed(0)
    x = simulate(program, 6)
    y = torch.tensor([0, -1, 2, -1, -1, 1])
    loss = Enumerated(labels=2.0, max_plate_nesting=1)
    torch.manual_seed(1)
    loss.differentiable_loss(program.model, program.guide, x, y).backward()
    assert all(p.grad is None for p in program.below.parameters())
    torch.manual_seed(1)
    codes = program.below.encoder(x).rsample((1,))[0].detach()
    loss.differentiable_loss(alone.model, alone.guide, codes, y).backward()
    for ours, its in zip(program.above.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, its.grad)


def test_labels_of_a_stack_are_averaged_over_its_codes() -> None:
    program = stacked()
    torch.manual_seed(0)
    x = simulate(program, 5)
    codes = program.below.encoder(x).sample((4000,))
    by_code = program.above.classifier(codes).probs.detach()
    found = label_probabilities(program, x, draws=100, chunk=3)
    spread = by_code.std(0) * (1 / 100 + 1 / 4000) ** 0.5
    assert bool(((found - by_code.mean(0)).abs() < 4 * spread + 1e-6).all())
    assert float(spread.max()) > 1e-3


class TestBadInput:
    @pytest.mark.parametrize("count", [2, 85, 0])
    def test_more_or_fewer_labels_than_there_are(self, count: int) -> None:
        y = torch.tensor([0] * 50 + [1] * 30 + [2] * 4 + [-1] * 6)
        with pytest.raises(ValueError, match=r"expected a number of labels"):
            few_labels(y, count)

    def test_all_labels_missing(self, seen: tuple[Tensor, Tensor]) -> None:
        x, y = seen
        missing = torch.full_like(y, -1)
        with pytest.raises(ValueError, match="expected some labels to compare with, got 12 that"):
            accuracy(mixture(), x, missing)
        with pytest.raises(ValueError, match="expected a number of labels from 0"):
            few_labels(missing, 1)

    def test_a_guide_without_labels(self, binary: Tensor) -> None:
        with pytest.raises(ValueError, match="expected a guide that samples labels at a site 'y'"):
            accuracy(vae((1, 8, 8), 2), binary, torch.zeros(len(binary), dtype=torch.long))

    def test_labels_out_of_range(self, seen: tuple[Tensor, Tensor]) -> None:
        x, y = seen
        y = y.clone()
        y[3] = 7
        said = "expected labels in 0, …, 2, or −1 where missing, got -1 to 7"
        with pytest.raises(ValueError, match=re.escape(said)):
            log_evidence(mixture(), None, x, y)
        program = mixture()
        step = svi_step(program, torch.optim.Adam(program.parameters()), Enumerated())
        with pytest.raises(ValueError, match=re.escape(said)):
            step(x, y)

    def test_a_latent_that_cannot_be_listed(self) -> None:
        def model(x: Tensor | None = None, *, n: int = 1) -> Tensor:
            with pyro.plate("data", n if x is None else x.shape[0]):
                k = pyro.sample("k", dist.Poisson(torch.tensor(2.0)))
                return pyro.sample("x", dist.Normal(k, 1.0), obs=x)

        def guide(x: Tensor) -> None:
            with pyro.plate("data", x.shape[0]):
                pyro.sample("k", dist.Poisson(x.exp()))

        with pytest.raises(
            ValueError, match="expected reparameterised draws of 'k' for Enumerated"
        ):
            Enumerated().loss(model, guide, torch.zeros(3))

    @pytest.mark.parametrize("classes", [0, 1, -3])
    def test_too_few_classes(self, classes: int) -> None:
        with pytest.raises(ValueError, match="classes"):
            ss_vae((2,), 1, classes=classes)
