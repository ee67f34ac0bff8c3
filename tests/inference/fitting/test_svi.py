"""The SVI step: gradients are Pyro's, β and clipping do what they say, and what goes wrong is
named.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import pytest
import torch
from programs import digits
from pyro.infer import (
    RenyiELBO,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    config_enumerate,
)
from torch import Tensor, nn

from ppl_gen import data, guides
from ppl_gen.guides import DiagonalGaussian
from ppl_gen.inference import (
    NotFinite,
    StickingTheLanding,
    elbo,
    fit,
    iterate,
    log_evidence,
    svi_step,
)
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.likelihoods import Gaussian
from ppl_gen.models import VAE, cvae, toy, vae
from ppl_gen.priors import StandardNormal


def sgd(program: nn.Module, lr: float = 0.0) -> torch.optim.Optimizer:
    return torch.optim.SGD(program.parameters(), lr)


def gradients(program: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in program.parameters() if p.grad is not None]


ELBOS = [Trace_ELBO, TraceMeanField_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, RenyiELBO]


@pytest.mark.parametrize(
    "elbo", [*(e() for e in ELBOS), Trace_ELBO(num_particles=3, vectorize_particles=True)]
)
def test_the_gradient_is_pyro_s_per_datum(elbo: pyro.infer.ELBO, binary: Tensor) -> None:
    program = vae((1, 8, 8), 2)
    step = svi_step(program, sgd(program), elbo)
    step(binary)  # the first step checks and sets up
    torch.manual_seed(1)
    loss = -12 * step(binary)["elbo"]
    ours = gradients(program)
    program.zero_grad()
    torch.manual_seed(1)
    with pyro.poutine.trace(param_only=True):
        expected = elbo.loss_and_grads(program.model, program.guide, binary)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    for mine, theirs in zip(ours, gradients(program), strict=True):
        torch.testing.assert_close(12 * mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("elbo", ELBOS)
def test_the_param_store_is_as_it_was_found(elbo: type[pyro.infer.ELBO], binary: Tensor) -> None:
    pyro.param("a user's own", torch.zeros(2))
    program = vae((1, 8, 8), 2)
    fit(svi_step(program, sgd(program), elbo()), [(binary,)], 2, progress=False)
    assert list(pyro.get_param_store().keys()) == ["a user's own"]


@pytest.mark.parametrize("elbo", ELBOS)
def test_the_program_pickles_after_any_elbo(elbo: type[pyro.infer.ELBO], binary: Tensor) -> None:
    program = vae((1, 8, 8), 2)
    svi_step(program, sgd(program), elbo())(binary)
    assert pickle.dumps(program)


def test_a_latent_that_the_model_enumerates_needs_no_guide() -> None:
    """TraceEnum_ELBO sums z out of the mixture: with an empty guide its ELBO is exact."""
    program = toy.GaussianMixture(torch.tensor([1.0, 2.0]), torch.randn(2, 2), 0.5)
    x, shift = torch.randn(20, 2), torch.zeros(2, requires_grad=True)

    class Summed:
        @config_enumerate
        def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
            with pyro.plate("data", n if x is None else x.shape[0]):
                z = pyro.sample("z", dist.Categorical(program.weights))
                return pyro.sample(
                    "x", dist.Normal(program.locs[z] + shift, program.scales[z]).to_event(1), obs=x
                )

        def guide(self, x: Tensor) -> None:
            """Nothing is left to guess."""

    step = svi_step(Summed(), torch.optim.SGD([shift], 0.0), TraceEnum_ELBO(max_plate_nesting=1))
    assert float(step(x)["elbo"]) == pytest.approx(
        float(program.exact_log_evidence(x).mean()), rel=1e-5
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [({"clip": 0.0}, "clip above 0, got 0"), ({"beta": -1.0}, "beta of at least 0")],
)
def test_bad_options(options: dict[str, float], said: str) -> None:
    program = vae((1, 8, 8), 2)
    with pytest.raises(ValueError, match=said):
        svi_step(program, sgd(program), **options)


@pytest.mark.parametrize("elbo", [Trace_ELBO(), TraceMeanField_ELBO()])
def test_beta_weighs_the_divergence_only(elbo: pyro.infer.ELBO, binary: Tensor) -> None:
    """ELBO(β) is a line in β at a fixed draw, and β = 0 leaves the reconstruction."""
    program = vae((1, 8, 8), 2)
    values = []
    for beta in (0.0, 1.0, 3.0):
        step = svi_step(program, sgd(program), elbo, beta=beta)
        step(binary)
        torch.manual_seed(1)
        values.append(float(step(binary)["elbo" if beta == 1 else "objective"]))
    assert values[0] - values[2] == pytest.approx(3 * (values[0] - values[1]), rel=1e-3)
    torch.manual_seed(1)
    z = program.encoder(binary).rsample()
    assert values[0] == pytest.approx(
        program.likelihood(program.decoder(z)).log_prob(binary).sum().item() / 12, rel=1e-5
    )


def test_a_schedule_sees_the_index_of_the_step_and_goes_on(binary: Tensor) -> None:
    program, seen = vae((1, 8, 8), 2), list[int]()

    def schedule(index: int) -> float:
        seen.append(index)
        return 1.0

    fit(svi_step(program, sgd(program), beta=schedule), [(binary,)] * 2, 2, progress=False)
    fit(
        svi_step(program, sgd(program), beta=schedule, first_step=4), [(binary,)], 1, progress=False
    )
    assert seen == [0, 1, 2, 3, 4]


def test_clipping_bounds_the_update(binary: Tensor) -> None:
    program = vae((1, 8, 8), 2)
    before = nn.utils.parameters_to_vector(program.parameters()).clone()
    metrics = svi_step(program, sgd(program, 1.0), clip=0.01)(binary)
    moved = (nn.utils.parameters_to_vector(program.parameters()) - before).norm()
    assert float(metrics["gradient_norm"]) > 1
    assert float(moved.detach()) == pytest.approx(0.01, rel=1e-3)


def test_one_batch_serves_a_vae_and_a_cvae() -> None:
    batch = next(iter(digits(binarize="threshold").batches(50)))
    for program in (vae((1, 8, 8), 2), cvae((1, 8, 8), 2, classes=10)):
        assert torch.isfinite(svi_step(program, sgd(program))(*batch)["elbo"])


def test_the_step_is_the_same_with_and_without_the_check(binary: Tensor) -> None:
    """The check of the first batch draws nothing from the global generator: a resumed run is the
    same run.
    """
    program = vae((1, 8, 8), 2)
    step = svi_step(program, sgd(program))
    torch.manual_seed(5)
    first = step(binary)["elbo"]
    torch.manual_seed(5)
    assert torch.equal(step(binary)["elbo"], first)


def test_two_programs_and_a_guide_apart(binary: Tensor) -> None:
    """A guide of its own is trained by an optimiser over both."""
    program, other = vae((1, 8, 8), 2), vae((1, 8, 8), 2)
    both = torch.optim.Adam([*program.decoder.parameters(), *other.encoder.parameters()], 1e-2)
    records = fit(svi_step(program, both, guide=other.guide), [(binary,)], 30, progress=False)
    assert records[-1].metrics["elbo"] > records[0].metrics["elbo"] + 5
    assert all(p.grad is None for p in program.encoder.parameters())


class TestWhatGoesWrong:
    def test_a_loss_names_its_site_and_leaves_the_parameters(self, binary: Tensor) -> None:
        program = vae((1, 8, 8), 2)
        step = svi_step(program, torch.optim.Adam(program.parameters(), 1e-3))
        step(binary)
        with torch.no_grad():
            program.decoder[0][0].bias[0] = torch.nan
        before = [p.clone() for p in program.parameters()]
        with pytest.raises(
            NotFinite,
            match=r"the loss at step 1 is not finite, from site 'x' of the model; lower the",
        ):
            step(binary)
        assert all(
            torch.equal(a, b) or a.isnan().any()
            for a, b in zip(before, program.parameters(), strict=True)
        )

    def test_a_gradient_names_its_parameter(self, binary: Tensor) -> None:
        class Root(nn.Module):
            """The square root has an infinite slope at zero, but a finite value."""

            def __init__(self) -> None:
                super().__init__()
                self.offset = nn.Parameter(torch.zeros(()))

            def forward(self, logits: Tensor) -> dist.Bernoulli:
                return dist.Bernoulli(logits=logits + self.offset.sqrt())

        program = vae((1, 8, 8), 2, likelihood=Root())
        with pytest.raises(
            NotFinite,
            match=r"the gradient at step 0 is not finite, from parameter likelihood.offset; lower",
        ):
            svi_step(program, sgd(program))(binary)

    def test_an_optimiser_of_other_parameters(self, binary: Tensor) -> None:
        with pytest.raises(ValueError, match="got none: they are not those of this program"):
            svi_step(vae((1, 8, 8), 2), sgd(vae((1, 8, 8), 2)))(binary)

    def test_data_that_do_not_suit_are_named_before_the_first_update(self) -> None:
        program = vae((1, 8, 8), 2)
        with pytest.raises(ValueError, match="support of Bernoulli"):
            svi_step(program, sgd(program))(digits().x[:5])


class TestTheLoop:
    def test_metrics_are_averages_over_data(self) -> None:
        batches = [(torch.full((3,), 1.0),), (torch.full((1,), 5.0),)]
        (record,) = iterate(lambda x: {"mean": x.mean()}, batches, 1)
        assert record.metrics == {"mean": 2.0}
        assert (record.epoch, record.data) == (1, 4)

    def test_schedulers_move_on_after_each_epoch_and_a_callback_after_each_step(self) -> None:
        """Before the record is yielded, so that a checkpoint holds the rates of the next epoch."""
        weight = nn.Parameter(torch.zeros(()))
        rates: list[list[float]] = []
        optimizers = [torch.optim.SGD([weight], lr=lr) for lr in (1.0, 4.0)]
        halved = [torch.optim.lr_scheduler.ExponentialLR(o, 0.5) for o in optimizers]
        seen = []

        def after_step(index: int, metrics: Mapping[str, Tensor]) -> None:
            rates.append([o.param_groups[0]["lr"] for o in optimizers])
            seen.append((index, float(metrics["mean"])))

        def step(x: Tensor) -> dict[str, Tensor]:
            for optimizer in optimizers:
                optimizer.step()
            return {"mean": x.mean()}

        batches = [(torch.ones(2),), (torch.zeros(1),)]
        records = iterate(step, batches, 2, scheduler=halved, after_step=after_step)
        assert next(records).metrics == {"mean": pytest.approx(2 / 3)}
        assert [o.param_groups[0]["lr"] for o in optimizers] == [0.5, 2.0]
        next(records)
        assert rates == [[1.0, 4.0], [1.0, 4.0], [0.5, 2.0], [0.5, 2.0]]
        assert seen == [(0, 1.0), (1, 0.0), (2, 1.0), (3, 0.0)]
        fit(step, batches, 1, scheduler=halved[0], progress=False)
        assert [o.param_groups[0]["lr"] for o in optimizers] == [0.125, 1.0]
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizers[0])
        with pytest.raises(ValueError, match="which needs a metric"):
            iterate(step, batches, 1, scheduler=plateau)

    @pytest.mark.parametrize("engine", ["eager", "fx"])
    def test_every_engine_follows_a_scheduler(self, engine: Engine) -> None:
        """A rate that has fallen to zero moves nothing any more."""
        torch.manual_seed(0)
        program = vae((4,), 2)
        optimizer = torch.optim.Adam(program.parameters(), 0.01)
        stopped = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: float(epoch < 1))
        step = svi_step(program, optimizer, engine=engine)
        records = iterate(step, [(torch.eye(4),)] * 3, 2, scheduler=stopped)
        first = [p.clone() for p in program.parameters()]
        next(records)
        second = [p.clone() for p in program.parameters()]
        next(records)
        assert not any(map(torch.equal, first, second))
        assert all(map(torch.equal, second, program.parameters()))

    def test_epochs_go_on(self) -> None:
        records = iterate(lambda x: {"a": x.sum()}, [(torch.ones(1),)], 5, first_epoch=4)
        assert [r.epoch for r in records] == [4, 5]

    @pytest.mark.parametrize(
        ("batches", "epochs", "said"),
        [
            ([(torch.ones(1),)], 0, "at least 1 epoch, got 0"),
            (iter([(torch.ones(1),)]), 1, "walked through anew in each epoch, got a list_iterator"),
            ([], 1, "expected at least one batch, got none"),
        ],
    )
    def test_bad_input(self, batches: object, epochs: int, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            list(iterate(lambda x: {}, batches, epochs))


@pytest.mark.long
def test_a_linear_vae_finds_the_principal_components() -> None:
    """The exact evidence of the fitted VAE reaches that of maximum likelihood: 16.6285 nats per
    test datum at q = 10.
    """
    digits = data.load("digits")
    train, test = digits.train.x.flatten(1), digits.test.x.flatten(1)
    program = VAE(
        StandardNormal(10), nn.Linear(10, 64), Gaussian(), DiagonalGaussian(nn.Linear(64, 20))
    )
    optimizer = torch.optim.Adam(program.parameters(), 0.03)
    step = svi_step(program, optimizer, TraceMeanField_ELBO())
    for record in iterate(step, data.Split(train).batches(500), 1000):
        optimizer.param_groups[0]["lr"] = 0.03 * (1 - record.epoch / 1000) + 1e-5
    weight, loc = program.decoder.weight, program.decoder.bias
    exact = toy.PPCA(weight, loc, program.likelihood.scale).exact_log_evidence(test)
    assert float(exact.mean()) >= 16.60
    estimate = log_evidence(program, None, test, particles=2000)
    bias = estimate.standard_error.square() / 2
    assert ((estimate.value - exact).abs() <= 4 * estimate.standard_error + bias + 1e-4).all()
    mean = estimate.mean()
    assert (
        abs(float(mean.value - exact.mean()))
        <= 4 * float(mean.standard_error) + float(bias.mean()) + 1e-4
    )


@pytest.mark.slow
def test_a_full_covariance_reaches_the_maximum_of_a_linear_vae() -> None:
    """The guide has the posterior of any rotation of the principal components, so that nothing but
    the maximum of the evidence, 17.5648 nats per training datum at q = 10, is left to find."""
    digits = data.load("digits")
    train = digits.train.x.flatten(1)
    program = VAE(
        StandardNormal(10),
        nn.Linear(10, 64),
        Gaussian(),
        guides.full_covariance(lambda outputs: nn.Linear(64, outputs), 10),
    )
    epochs = 5000
    optimizer = torch.optim.Adam(program.parameters(), 0.03)
    step = svi_step(program, optimizer, StickingTheLanding(), steps=3 * epochs)
    for record in iterate(step, data.Split(train).batches(500), epochs):
        optimizer.param_groups[0]["lr"] = 0.03 * (1 - record.epoch / epochs) ** 2 + 1e-5
    fitted = toy.PPCA(program.decoder.weight, program.decoder.bias, program.likelihood.scale)
    evidence = fitted.exact_log_evidence(train).mean()
    assert float(evidence) == pytest.approx(17.5648, abs=0.005)
    bound = elbo(program, None, train, particles=50, seed=0).mean()
    assert float(evidence - bound.value) < 0.02 + 4 * float(bound.standard_error)
