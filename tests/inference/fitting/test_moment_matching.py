"""Moment matching: the step descends what it says, gradients stay finite, and generators learn."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_gen.inference import NotFinite, fit
from ppl_gen.inference.fitting.moment_matching import Discrepancy, moment_step
from ppl_gen.inference.samples.discrepancies import squared_energy, squared_mmd
from ppl_gen.inference.samples.distances import energy_distance
from ppl_gen.inference.samples.kernels import Gaussian
from ppl_gen.likelihoods import Dirac
from ppl_gen.models import vae
from ppl_gen.nn import mlp
from ppl_gen.priors import StandardNormal
from ppl_gen.program import Observed, per_datum, simulate


class Implicit(nn.Module):
    """z ~ N(0, I), x = g(z): no density."""

    def __init__(self, decoder: nn.Module, dim: int = 2) -> None:
        super().__init__()
        self.prior, self.decoder = StandardNormal(dim), decoder

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        with pyro.plate("data", n if x is None else x.shape[0]):
            z = pyro.sample("z", self.prior())
            return pyro.sample("x", per_datum(dist.Delta(self.decoder(z)), 1), obs=x)


class Labelled(nn.Module):
    """x = m(y) + s(y) z, for labels or attributes y."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.means, self.scales = (
            nn.Parameter(torch.zeros(classes, 1)),
            nn.Parameter(0.5 * torch.ones(classes, 1)),
        )

    def model(self, x: Tensor | None, y: Tensor, *, n: int = 1) -> Tensor:
        code = y.float() if y.dim() > 1 else nn.functional.one_hot(y, len(self.means)).float()
        with pyro.plate("data", len(y)):
            z = pyro.sample("z", StandardNormal(1)())
            return pyro.sample(
                "x", per_datum(dist.Delta(code @ self.means + code @ self.scales * z), 1), obs=x
            )


def sgd(program: nn.Module, rate: float = 0.0) -> torch.optim.Optimizer:
    return torch.optim.SGD(program.parameters(), rate)


def adam(program: nn.Module, rate: float = 1e-2) -> torch.optim.Optimizer:
    return torch.optim.Adam(program.parameters(), rate)


class TestTheStep:
    def test_it_descends_the_discrepancy(self) -> None:
        program, x = Implicit(nn.Linear(2, 2)), torch.randn(30, 2)
        torch.manual_seed(5)
        found = moment_step(program, sgd(program, 0.1), squared_energy)(x)
        after = [p.detach().clone() for p in program.parameters()]
        for p in program.parameters():  # back to where it was
            p.data += 0.1 * p.grad
        torch.manual_seed(5)
        loss = squared_energy(program.model(None, n=30), x)
        assert float(found["discrepancy"]) == pytest.approx(loss.item(), rel=1e-4)
        assert not found["discrepancy"].requires_grad
        gradients = torch.autograd.grad(loss, list(program.parameters()))
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        assert float(found["gradient_norm"]) == pytest.approx(float(norm), rel=1e-4)
        for p, moved, g in zip(program.parameters(), after, gradients, strict=True):
            torch.testing.assert_close(p.detach() - 0.1 * g, moved, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("discrepancy", [None, squared_energy, squared_mmd])
    @pytest.mark.parametrize("decoder", [0.0, 1.0])
    def test_gradients_are_finite_where_all_points_coincide(
        self, discrepancy: Discrepancy | None, decoder: float
    ) -> None:
        """A generator that has collapsed, on data that are copies of the point it draws and of
        another one.
        """
        program = Implicit(nn.Linear(2, 2))
        for p in program.parameters():
            p.data.fill_(0.0 if p.dim() == 2 else decoder)
        x = torch.tensor([[decoder, decoder], [3.0, 3.0]]).repeat(8, 1)
        moment_step(program, adam(program), discrepancy)(x)
        for p in program.parameters():
            assert bool(torch.isfinite(p.grad).all())
            assert bool(torch.isfinite(p).all())
        assert float(program.decoder.bias.grad.abs().max()) > 0

    def test_clip(self) -> None:
        program, x = Implicit(nn.Linear(2, 2)), torch.randn(30, 2) + 5
        found = moment_step(program, sgd(program), squared_energy, clip=0.01)(x)
        assert float(found["gradient_norm"]) > 0.01
        left = torch.cat([p.grad.flatten() for p in program.parameters()]).norm()
        assert float(left) == pytest.approx(0.01, rel=1e-3)

    def test_features_are_what_is_matched(self) -> None:
        """The first coordinate alone: the rows of the decoder for the other one get no gradient."""
        program = Implicit(nn.Linear(2, 2))
        moment_step(program, sgd(program), features=lambda x: x[:, :1])(torch.randn(30, 2))
        assert program.decoder.weight.grad[1].tolist() == [0, 0]
        assert float(program.decoder.weight.grad[0].abs().max()) > 0

    @pytest.mark.parametrize(
        "wrap", [lambda program: program, lambda program: Observed(program, Dirac())]
    )
    def test_labels_that_the_program_does_not_take_are_left_out(
        self, wrap: Callable[[Any], Any]
    ) -> None:
        program, x = wrap(Implicit(nn.Linear(2, 2))), torch.randn(30, 2)
        found = []
        for batch in ((x,), (x, torch.arange(30))):
            torch.manual_seed(1)
            found.append(float(moment_step(program, sgd(program))(*batch)["discrepancy"]))
        assert found[0] == found[1]

    def test_the_mode_stays(self) -> None:
        program = Implicit(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
        moment_step(program, sgd(program))(torch.randn(30, 2))
        assert program.training
        assert int(program.decoder[1].num_batches_tracked) == 1

    def test_an_explicit_program_by_its_mean(self, binary: Tensor) -> None:
        program = vae((1, 8, 8), 2)
        step = moment_step(
            Observed(program, Dirac()), torch.optim.Adam(program.decoder.parameters(), 1e-3)
        )
        assert step(binary)["discrepancy"].shape == ()


class TestLearning:
    @pytest.mark.long
    @pytest.mark.parametrize(
        "discrepancy", [None, pytest.param(squared_energy, marks=pytest.mark.slow)]
    )
    def test_a_gaussian(self, discrepancy: Discrepancy | None) -> None:
        """Mean and covariance of the data, within the errors of 1000 data and a hundredth for the
        noise of the last steps.
        """
        mix = torch.tensor([[1.0, 0.8], [0.0, 0.6]])
        x = torch.randn(1000, 2) @ mix + torch.tensor([2.0, -1.0])
        program = Implicit(nn.Linear(2, 2))
        for rate in (3e-2, 3e-3):
            fit(
                moment_step(program, adam(program, rate), discrepancy),
                [(part,) for part in x.split(200)],
                60,
                progress=False,
            )
        weight = program.decoder.weight.detach()
        torch.testing.assert_close(
            program.decoder.bias.detach(), x.mean(0), rtol=0, atol=4 * (1 / 1000) ** 0.5 + 0.02
        )
        torch.testing.assert_close(
            weight @ weight.T, x.T.cov(), rtol=0, atol=4 * (2 / 1000) ** 0.5 + 0.02
        )

    @pytest.mark.long
    def test_two_modes(self) -> None:
        x = 0.2 * torch.randn(600, 1) + torch.tensor([-2.0, 2.0]).repeat(300)[:, None]
        program = Implicit(mlp([2, 32, 32, 1]))
        fit(
            moment_step(program, adam(program, 3e-3)),
            [(part,) for part in x.split(200)],
            150,
            progress=False,
        )
        drawn = simulate(program, 2000)
        assert float((drawn > 0).float().mean()) == pytest.approx(0.5, abs=0.1)
        assert float(((drawn.abs() - 2).abs() < 0.6).float().mean()) > 0.8
        before = energy_distance(torch.randn(600, 1), x)
        assert float(energy_distance(drawn, x).value) < 0.05 * float(before.value)

    @pytest.mark.slow
    def test_each_label_its_own(self) -> None:
        """Means −3, 0, 3 and deviations 0.2, 0.6, 1: matched jointly with the label, and not only
        together.
        """
        y = torch.arange(1200) % 3
        x = (3.0 * (y - 1) + (0.2 + 0.4 * y) * torch.randn(1200))[:, None]
        program = Labelled()
        for rate in (3e-2, 3e-3):
            step = moment_step(program, adam(program, rate))
            fit(step, list(zip(x.split(240), y.split(240), strict=True)), 60, progress=False)
        for label in range(3):
            own = x[y == label]
            error = float(own.std()) / len(own) ** 0.5
            assert program.means[label].item() == pytest.approx(
                float(own.mean()), abs=4 * error + 0.05
            )
            assert program.scales[label].item() == pytest.approx(
                float(own.std()), abs=4 * error + 0.05
            )

    @pytest.mark.slow
    def test_attribute_vectors(self) -> None:
        a = torch.rand(1200, 3)
        x = a @ torch.tensor([[2.0], [-1.0], [0.5]]) + 0.2 * torch.randn(1200, 1)
        program = Labelled()
        for rate in (3e-2, 3e-3):
            step = moment_step(program, adam(program, rate))
            fit(step, list(zip(x.split(240), a.split(240), strict=True)), 60, progress=False)
        # The least-squares slopes have errors 0.2 √(12 / 1200) = 0.02; a discrepancy of the joint
        # sees them less sharply.
        torch.testing.assert_close(
            program.means.detach(), torch.tensor([[2.0], [-1.0], [0.5]]), rtol=0, atol=0.2
        )

    def test_the_joint_discrepancy_is_zero_at_the_truth(self) -> None:
        """Over R = 300 batches drawn by the program itself: no bias from contexts that both sides
        share.
        """
        program = Labelled()
        program.means.data = torch.tensor([[-1.0], [0.0], [1.0]])
        step, values = moment_step(program, sgd(program), squared_energy), []
        for _ in range(300):
            y = torch.randint(3, (12,))
            values.append(step(program.model(None, y, n=12).detach(), y)["discrepancy"])
        found = torch.stack(values)
        assert abs(float(found.mean())) < 4 * float(found.std()) / 300**0.5


@pytest.mark.parametrize("discrepancy", [None, squared_energy])
def test_a_graph_makes_the_same_step(discrepancy: Any) -> None:
    found = []
    for engine in ("eager", "fx"):
        torch.manual_seed(0)
        program = Implicit(mlp([2, 8, 2])).double()
        step = moment_step(program, adam(program), discrepancy, engine=engine)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            values = [float(step(torch.rand(20, 2).double())["discrepancy"]) for _ in range(5)]
        found.append((values, list(program.parameters())))
    (mine, weights), (theirs, others) = found
    assert mine == pytest.approx(theirs, rel=1e-9)
    for one, other in zip(weights, others, strict=True):
        torch.testing.assert_close(one, other)


class TestBadInput:
    @pytest.mark.parametrize(
        ("call", "said"),
        [
            (lambda p: moment_step(p, sgd(p), clip=0.0), "expected clip above 0, got 0.0"),
            (
                lambda p: moment_step(p, sgd(p))(torch.randn(1, 2)),
                "expected at least 2 data in a batch, got 1",
            ),
            (
                lambda p: moment_step(p, sgd(p))(torch.randn(9, 3)),
                r"the shape that the program draws, \(2,\), got \(3,\)",
            ),
            (
                lambda p: moment_step(p, sgd(nn.Linear(1, 1)))(torch.randn(9, 2)),
                "expected a gradient for the optimiser's parameters, got none",
            ),
        ],
    )
    def test_of_the_step(self, call: Callable[[nn.Module], object], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            call(Implicit(nn.Linear(2, 2)))

    def test_too_few_data_with_a_context(self) -> None:
        program = Labelled()
        with pytest.raises(ValueError, match="expected at least 4 data in a batch, got 3"):
            moment_step(program, sgd(program))(torch.randn(3, 1), torch.arange(3))
        with pytest.raises(ValueError, match="expected 1 context tensors"):
            moment_step(program, sgd(program))(torch.randn(3, 1))

    def test_pixels_that_are_not_reparametrised(self, binary: Tensor) -> None:
        program = vae((1, 8, 8), 2)
        with pytest.raises(
            ValueError,
            match=r"a differentiable function of the latents.*Observed\(program, Dirac\(\)\)",
        ):
            moment_step(program, sgd(program))(binary)

    def test_not_finite(self) -> None:
        program = Implicit(nn.Linear(2, 2))
        program.decoder.bias.data.fill_(math.nan)
        before = program.decoder.weight.detach().clone()
        with pytest.raises(
            NotFinite, match="the discrepancy at step 0 is not finite; lower the learning rate"
        ):
            moment_step(program, sgd(program, 0.1), lambda x, y: squared_mmd(x, y, Gaussian(1.0)))(
                torch.randn(9, 2)
            )
        assert torch.equal(program.decoder.weight, before)
