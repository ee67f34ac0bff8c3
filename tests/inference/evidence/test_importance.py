"""Importance-weighted evidence against exact answers; its memory, modes and randomness."""

from __future__ import annotations

import math
import subprocess
import sys

import arviz
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from programs import PROGRAMS, TwoLayers, digits
from torch import Tensor, nn

from ppl_gen.data import Split
from ppl_gen.inference import Estimate, elbo, fit, log_evidence, svi_step
from ppl_gen.inference.evidence.weights import LogWeights, _pareto, smoothed, tail_length
from ppl_gen.likelihoods import Bernoulli, Dirac, Gaussian
from ppl_gen.models import CVAE, VAE, cvae, toy, vae
from ppl_gen.priors import StandardNormal
from ppl_gen.program import Observed, simulate


def wide(program: toy.PPCA) -> object:
    """A wrong proposal: the exact posterior with standard deviations 1.3 times as large."""

    def guide(x: Tensor) -> Tensor:
        posterior = program.exact_posterior(x)
        with pyro.plate("data", x.shape[0]):
            return pyro.sample(
                "z", dist.MultivariateNormal(posterior.mean, 1.69 * posterior.covariance_matrix)
            )

    return guide


def agrees(estimate: Estimate, exact: Tensor) -> bool:
    """Whether each datum and the average lie within 4 standard errors and the bias of the log."""

    def close(e: Estimate, truth: Tensor, bias: Tensor) -> bool:
        off = (e.value - truth).abs()
        allowed = 4 * e.standard_error + bias + 1e-5 * truth.abs()
        return bool((off <= allowed).all())

    bias = estimate.standard_error.square() / 2
    return close(estimate, exact.double(), bias) and close(
        estimate.mean(), exact.double().mean(), bias.mean()
    )


@pytest.fixture
def ppca() -> tuple[toy.PPCA, Tensor]:
    program = toy.PPCA(torch.randn(8, 3), torch.zeros(8), 0.5)
    return program, simulate(program, 40)


class TestAgainstExactAnswers:
    def test_ppca_from_a_wrong_proposal(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        program, x = ppca
        assert agrees(
            log_evidence(program, wide(program), x, particles=4000), program.exact_log_evidence(x)
        )

    def test_the_exact_posterior_needs_one_particle(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        program, x = ppca
        got = log_evidence(program, None, x, particles=1).value
        torch.testing.assert_close(
            got, program.exact_log_evidence(x).double(), rtol=1e-4, atol=1e-4
        )

    def test_a_discrete_latent_from_the_prior(self) -> None:
        program = toy.GaussianMixture(torch.tensor([1.0, 2.0, 3.0]), torch.randn(3, 2), 0.7)

        def prior(x: Tensor) -> Tensor:
            with pyro.plate("data", x.shape[0]):
                return pyro.sample("z", dist.Categorical(program.weights))

        x = simulate(program, 40)
        assert agrees(
            log_evidence(program, prior, x, particles=4000), program.exact_log_evidence(x)
        )

    def test_a_curve_by_quadrature(self) -> None:
        program = toy.Curve(lambda z: torch.cat([z, z.square() / 2], -1), 0.5)

        def prior(x: Tensor) -> Tensor:
            with pyro.plate("data", x.shape[0]):
                return pyro.sample("z", program.prior())

        x = simulate(program, 40)
        assert agrees(
            log_evidence(program, prior, x, particles=20_000), program.exact_log_evidence(x)
        )

    def test_a_fitted_vae_with_one_latent_by_quadrature(self) -> None:
        x = digits().x[:200].flatten(1)
        program = vae((64,), 1, hidden=(16,), likelihood=Gaussian())
        fit(
            svi_step(program, torch.optim.Adam(program.parameters(), 1e-2)),
            [(x,)],
            100,
            progress=False,
        )
        curve = toy.Curve(program.decoder, float(program.likelihood.scale.detach()))
        exact = curve.exact_log_evidence(x[:40]).detach()
        assert agrees(log_evidence(program, None, x[:40], particles=4000), exact)

    def test_a_condition_chooses_the_evidence(self) -> None:
        """A CVAE whose decoder adds a label's offset is a PPCA shifted by it."""

        class Shifted(nn.Module):
            def forward(self, z: Tensor, y: Tensor) -> Tensor:
                return z @ weight.T + y

        weight = torch.randn(4, 2)
        y = torch.randn(30, 4)
        wider = toy.PPCA(weight, torch.zeros(4), 0.6)
        program = CVAE(
            StandardNormal(2), Shifted(), Gaussian(0.5), lambda x, y: wider.exact_posterior(x - y)
        )
        x = simulate(program, 30, y)
        exact = toy.PPCA(weight, torch.zeros(4), 0.5).exact_log_evidence(x - y)
        assert agrees(log_evidence(program, None, x, y, particles=4000), exact)

    def test_two_latent_layers_are_a_ppca_when_linear(self) -> None:
        """z2 ~ N(0, I), z1 ~ N(Az2, I), x ~ N(Bz1, s²): x ~ N(0, B(AAᵀ + I)Bᵀ + s²I)."""
        a = torch.randn(3, 2)
        b = torch.randn(5, 3) / 2
        root = torch.linalg.cholesky(a @ a.T + torch.eye(3))
        flat = toy.PPCA(b @ root, torch.zeros(5), 0.7)
        upper = torch.linalg.inv(torch.eye(2) + a.T @ a)

        class Linear:
            def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
                with pyro.plate("data", n if x is None else x.shape[0]):
                    z2 = pyro.sample("z2", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                    z1 = pyro.sample("z1", dist.Normal(z2 @ a.T, 1.0).to_event(1))
                    return pyro.sample("x", dist.Normal(z1 @ b.T, 0.7).to_event(1), obs=x)

            def guide(self, x: Tensor) -> None:
                """z1 from its exact posterior, z2 wider than its own: the weights do the rest."""
                posterior = flat.exact_posterior(x)
                covariance = root @ posterior.covariance_matrix @ root.T
                with pyro.plate("data", x.shape[0]):
                    z1 = pyro.sample(
                        "z1", dist.MultivariateNormal(posterior.mean @ root.T, covariance)
                    )
                    pyro.sample("z2", dist.MultivariateNormal(z1 @ a @ upper, 1.5 * upper))

        x = simulate(flat, 30)
        assert agrees(log_evidence(Linear(), None, x, particles=20_000), flat.exact_log_evidence(x))

    def test_a_guide_with_a_plate_of_its_own(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        program, x = ppca

        def guide(x: Tensor) -> None:
            with pyro.plate("data", x.shape[0], dim=-1):
                with pyro.plate("noise", 3, dim=-2):
                    pyro.sample("u", dist.Normal(torch.zeros(1), 1.0), infer={"is_auxiliary": True})
                pyro.sample("z", program.exact_posterior(x))

        value = log_evidence(program, guide, x, particles=50).value
        assert value.shape == (40,)

    def test_a_program_without_latents(self) -> None:
        class Plain:
            def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
                with pyro.plate("data", n if x is None else x.shape[0]):
                    return pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1), obs=x)

            def guide(self, x: Tensor) -> None:
                """Nothing is left to guess."""

        x = torch.randn(9, 2)
        exact = dist.Normal(torch.zeros(2), 1.0).to_event(1).log_prob(x)
        torch.testing.assert_close(
            log_evidence(Plain(), None, x, particles=30).value, exact.double()
        )


class TestElbo:
    def test_its_distance_to_the_evidence_is_the_divergence(
        self, ppca: tuple[toy.PPCA, Tensor]
    ) -> None:
        """KL = D/2 (1.69 − 1 − log 1.69) for every datum, at 1.3 times the deviations."""
        program, x = ppca
        estimate = elbo(program, wide(program), x, particles=4000, chunk=999)
        exact = program.exact_log_evidence(x) - 1.5 * (0.69 - math.log(1.69))
        assert ((estimate.value - exact).abs() < 4.5 * estimate.standard_error + 1e-4).all()
        assert (
            abs(float(estimate.mean().value - exact.mean()))
            < 4 * float(estimate.mean().standard_error) + 1e-4
        )

    def test_chunks_sum_up_to_the_whole(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        program, x = ppca
        one, two = (
            elbo(program, wide(program), x, particles=60, chunk=7, seed=0) for _ in range(2)
        )
        assert torch.equal(one.value, two.value)
        draws = torch.randn(50, 3, dtype=torch.float64)
        nothing = LogWeights.empty(3, 50, draws.device)
        merged = nothing.add(draws[:7]).add(draws[7:]).estimate(50)
        torch.testing.assert_close(merged.value, draws.mean(0))
        torch.testing.assert_close(merged.standard_error, draws.std(0) / 50**0.5)

    def test_one_particle_has_no_error(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        program, x = ppca
        assert str(elbo(program, None, x, particles=1)).endswith("± unknown")


class TestEstimate:
    @pytest.mark.long
    def test_the_error_is_that_of_repetitions(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        program, x = ppca
        runs = [log_evidence(program, wide(program), x, particles=200, seed=i) for i in range(100)]
        spread = torch.stack([r.value for r in runs]).std(0)
        variance = torch.stack([r.standard_error.square() for r in runs]).mean(0)
        claimed = variance.sqrt()
        # A standard deviation of 100 draws has a relative error of 7 %; the average over 40 data
        # far less.
        assert float((claimed / spread).mean()) == pytest.approx(1, abs=0.05)

    def test_weights_are_those_of_each_datum(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        program, x = ppca
        alone = log_evidence(program, wide(program), x[:1], particles=1000)
        among = log_evidence(program, wide(program), x.repeat(20, 1), particles=1000)
        assert among.ess.min() > 0.5 * alone.ess.min()

    def test_the_mean_propagates_errors(self) -> None:
        mean = Estimate(
            torch.tensor([1.0, 3.0]),
            torch.tensor([0.3, 0.4]),
            torch.tensor([9.0, 5.0]),
            torch.tensor([0.1, 0.9]),
        ).mean()
        assert float(mean.value) == 2
        assert float(mean.standard_error) == pytest.approx(0.25)
        assert float(mean.sampling_error) == pytest.approx(1.0)
        assert float(mean.ess) == 5
        assert float(mean.k_hat) == pytest.approx(0.9)
        assert str(mean) == "2.000 ± 0.250"

    def test_few_particles_have_no_tail(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        program, x = ppca
        assert log_evidence(program, None, x, particles=20).k_hat is None
        assert torch.isnan(log_evidence(program, None, x, particles=1).standard_error).all()

    @pytest.mark.parametrize("shape", [0.1, 0.5, 0.9])
    def test_k_hat_is_arviz_s(self, shape: float) -> None:
        rows = log_weights(shape).T.numpy()
        if hasattr(arviz, "psislw"):
            reference = [float(arviz.psislw(row)[1]) for row in rows]
            length = tail_length(2000)
        else:
            from arviz_stats.base import array_stats

            # From 1.0 on it takes the negative, and rounds the length of the tail down; the paper
            # rounds it up.
            reference = [float(array_stats.psislw(-row)[1]) for row in rows]
            length = int(3 * 2000**0.5)
        tail = log_weights(shape).topk(length + 1, dim=0).values
        np.testing.assert_allclose(_pareto(tail).shape.numpy(), reference, atol=1e-6)

    @pytest.mark.skipif(not hasattr(arviz, "psislw"), reason="ArviZ before 1.0 smooths likewise")
    @pytest.mark.parametrize("shape", [0.1, 0.5, 0.9])
    def test_smoothed_weights_are_arviz_s(self, shape: float) -> None:
        rows = log_weights(shape)
        reference, _ = arviz.psislw(rows.T.numpy())
        found = smoothed(rows).log_softmax(0)
        np.testing.assert_allclose(found.T.numpy(), reference, atol=1e-6)

    def test_weights_without_a_tail_stay(self) -> None:
        few = torch.randn(20, 3).double()
        equal = torch.zeros(100, 2).double()
        assert smoothed(few).equal(few)
        assert smoothed(equal).equal(equal)

    def test_k_hat_of_equal_weights_of_a_few_values_and_of_a_single_one_that_counts(self) -> None:
        equal = torch.zeros(100)
        single = torch.linspace(0, -1e5, 100)
        few = torch.tensor([0.0, -2.0, -9.0])[torch.arange(100) // 34]
        tails = torch.stack([equal, few, single], -1).double()
        assert _pareto(tails).shape.tolist() == [-math.inf, -math.inf, math.inf]


def log_weights(shape: float) -> Tensor:
    """Logarithms of 2000 × 10 draws from a generalised Pareto, plus one."""
    u = torch.rand(2000, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return torch.log(1 + ((1 - u) ** -shape - 1) / shape)


class TestPromises:
    @pytest.mark.long
    @pytest.mark.parametrize(
        ("particles", "chunk", "sizes"),
        [(50, 30, {25}), (60, 50, {30}), (60, 7, {6}), (50, 80, {50}), (7, 3, {3, 1})],
    )
    def test_pieces_are_of_one_size_where_they_can_be(
        self, ppca: tuple[toy.PPCA, Tensor], particles: int, chunk: int, sizes: set[int]
    ) -> None:
        """So one graph, compiled, serves all; a piece of another size would have one of its own."""
        program, x = ppca
        inner = wide(program)
        seen = set()

        def guide(x: Tensor) -> Tensor:
            z = inner(x)
            if z.dim() == 3:
                seen.add(z.shape[0])
            return z

        log_evidence(program, guide, x[:3], particles=particles, chunk=chunk, engine="eager")
        assert sizes <= seen

    @pytest.mark.long
    def test_chunks_do_not_matter(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        """However the work is cut, every draw is used once.

        With the exact posterior all weights are equal.
        """
        program, x = ppca
        whole = log_evidence(program, None, x, particles=50)
        for chunk in (1, 7, 50, 333):
            cut = log_evidence(program, None, x, particles=50, chunk=chunk)
            torch.testing.assert_close(cut.value, whole.value, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(
                cut.ess, torch.full_like(cut.ess, 50.0), rtol=1e-3, atol=1e-3
            )

    @pytest.mark.long
    @pytest.mark.parametrize(
        "likelihood", ["Bernoulli()", pytest.param("Categorical(32)", marks=pytest.mark.slow)]
    )
    def test_memory_is_that_of_a_chunk(self, likelihood: str) -> None:
        """The peak stays, however many data.

        Three hundred data with a thousand particles each have 77 MB of decoded pixels, or 32 times
        that.
        """
        work = """
import resource, torch
from ppl_gen.inference import log_evidence
from ppl_gen.likelihoods import Bernoulli, Categorical
from ppl_gen.models import vae
program, x = vae((1, 8, 8), 2, hidden=(4,), likelihood=LIKELIHOOD), torch.ones(1000, 1, 8, 8)
log_evidence(program, None, x[:50], particles=1000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
log_evidence(program, None, x[:300], particles=1000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
        work = work.replace("LIKELIHOOD", likelihood)
        grown = subprocess.run(
            [sys.executable, "-c", work], capture_output=True, text=True, check=True
        )
        assert int(grown.stdout) < 40_000, f"{grown.stdout} KiB"

    def test_a_seed_repeats_and_leaves_the_generator(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        program, x = ppca
        state = torch.get_rng_state()
        one, two = (
            log_evidence(program, wide(program), x, particles=10, seed=3).value for _ in range(2)
        )
        assert torch.equal(one, two)
        assert torch.equal(torch.get_rng_state(), state)
        assert not torch.equal(
            log_evidence(program, wide(program), x, particles=10, seed=4).value, one
        )

    def test_the_guide_of_another_program_is_left_alone_too(self, binary: Tensor) -> None:
        one, other = vae((1, 8, 8), 2), vae((1, 8, 8), 2)
        other.encoder.net.append(nn.BatchNorm1d(4))
        before = other.state_dict()["encoder.net.2.running_mean"].clone()
        log_evidence(one, other.guide, binary, particles=3)
        assert torch.equal(other.state_dict()["encoder.net.2.running_mean"], before)
        assert other.training

    def test_batch_norm_statistics_and_modes_stay(self, binary: Tensor) -> None:
        program = vae((1, 8, 8), 2)
        program.encoder.net.append(nn.BatchNorm1d(4))
        before = program.state_dict()["encoder.net.2.running_mean"].clone()
        log_evidence(program, None, binary, particles=3)
        assert torch.equal(program.state_dict()["encoder.net.2.running_mean"], before)
        assert program.training


class TestBadInput:
    def test_particles(self, binary: Tensor) -> None:
        with pytest.raises(ValueError, match="expected particles of at least 1, got 0"):
            log_evidence(vae((1, 8, 8), 2), None, binary, particles=0)

    def test_outside_any_other_support(self) -> None:
        program = vae((3,), 2, likelihood=lambda rate: dist.Exponential(rate.exp()))
        with pytest.raises(
            ValueError,
            match=r"expected data in the support of Exponential, .* got values from -1 to -1",
        ):
            log_evidence(program, None, -torch.ones(4, 3))

    def test_counts_are_whole_and_in_range(self) -> None:
        poisson = vae((3,), 2, likelihood=lambda log_rate: dist.Poisson(log_rate.exp()))
        halves = r"support of Poisson.*from 1.5 to 1.5, among them 1.5: counts are whole numbers"
        with pytest.raises(ValueError, match=halves):
            log_evidence(poisson, None, torch.full((4, 3), 1.5))
        with pytest.raises(ValueError, match="got values from -2 to -2; shift them, or take"):
            log_evidence(poisson, None, torch.full((4, 3), -2.0))

    @pytest.mark.parametrize(
        ("x", "said"),
        [
            (torch.ones(3, 64), r"expected data of shape \(N, 1, 8, 8\), got \(3, 64\)"),
            (torch.full((3, 1, 8, 8), torch.nan), "expected finite data"),
            (
                torch.full((3, 1, 8, 8), 0.5),
                "support of Bernoulli.*got values from 0.5 to 0.5: binarise.*ContinuousBernoulli",
            ),
            (torch.ones(0, 1, 8, 8), "N of at least 1"),
        ],
    )
    def test_data(self, x: Tensor, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            log_evidence(vae((1, 8, 8), 2), None, x)

    def test_context(self, binary: Tensor) -> None:
        with pytest.raises(
            ValueError, match="context 0 to have one row for each of 12 data, got 5"
        ):
            log_evidence(cvae((1, 8, 8), 2, classes=10), None, binary, torch.ones(5).long())

    @pytest.mark.parametrize("wrong", [10, -2])
    def test_labels(self, wrong: int, binary: Tensor) -> None:
        labels = torch.zeros(12).long()
        labels[7] = wrong
        with pytest.raises(ValueError, match="expected labels in 0, …, 9"):
            log_evidence(cvae((1, 8, 8), 2, classes=10), None, binary, labels)

    def test_attributes_that_are_not_numbers(self, binary: Tensor) -> None:
        with pytest.raises(ValueError, match="expected finite context"):
            log_evidence(
                cvae((1, 8, 8), 2, attributes=1), None, binary, torch.full((12, 1), torch.nan)
            )

    def test_labels_missing_or_too_many(self, binary: Tensor) -> None:
        with pytest.raises(
            ValueError, match=r"expected 1 context tensors \(labels or attributes\) for CVAE, got 0"
        ):
            log_evidence(cvae((1, 8, 8), 2, classes=10), None, binary)
        with pytest.raises(ValueError, match=r"expected 0 context tensors .* for VAE, got 1"):
            log_evidence(vae((1, 8, 8), 2), None, binary, torch.zeros(12))

    def test_a_prior_that_is_not_pyro_s(self, binary: Tensor) -> None:
        plain = torch.distributions.Normal(torch.zeros(2), torch.ones(2))
        program = vae((1, 8, 8), 2, prior=lambda: torch.distributions.Independent(plain, 1))
        with pytest.raises(
            ValueError,
            match=r"the prior to return a distribution, got torch\..* of pyro\.distributions",
        ):
            log_evidence(program, None, binary)

    def test_another_dtype(self, binary: Tensor) -> None:
        with pytest.raises(
            ValueError,
            match=r"expected data of torch.float32, as the program is, got torch.float64",
        ):
            log_evidence(vae((1, 8, 8), 2), None, binary.double())

    def test_a_program_without_guide(self) -> None:
        with pytest.raises(ValueError, match="Curve has no guide of its own: pass one"):
            log_evidence(toy.Curve(lambda z: z, 0.1), None, torch.zeros(2, 1))

    def test_a_dirac_names_the_remedy(self, binary: Tensor) -> None:
        program = Observed(vae((1, 8, 8), 2), Dirac())
        with pytest.raises(ValueError, match=r"got a Dirac.*Observed\(program, Gaussian\(ε\)\)"):
            log_evidence(program, None, binary)

    def test_other_sites_in_the_guide(self, binary: Tensor) -> None:
        with pytest.raises(ValueError, match=r"latent sites \['z'\], got \['z1', 'z2'\]"):
            log_evidence(vae((64,), 2), TwoLayers().guide, binary.flatten(1))

    def test_grey_data_outside_the_unit_interval(self) -> None:
        program, x, _ = PROGRAMS["vae, continuous Bernoulli"]()
        with pytest.raises(ValueError, match="expected data in the support of ContinuousBernoulli"):
            log_evidence(program, None, 2 * x)

    def test_a_likelihood_that_takes_the_data_axis(self, binary: Tensor) -> None:
        program = VAE(
            StandardNormal(2),
            nn.Linear(2, 64),
            lambda logits: Bernoulli()(logits).to_event(2),
            vae((64,), 2).encoder,
        )
        with pytest.raises(ValueError, match=r"its `.to_event` takes the data axis too"):
            log_evidence(program, None, binary.flatten(1))


def test_deterministic_sites_are_no_latents() -> None:
    class Program:
        def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
            with pyro.plate("data", n if x is None else len(x)):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                mean = pyro.deterministic("mean", 2 * z)
                return pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.4 * x, 0.5))

    x = torch.linspace(-2, 2, 5)
    exact = dist.Normal(0.0, 5**0.5).log_prob(x)
    assert agrees(log_evidence(Program(), guide, x, particles=2000), exact)


class TestBatches:
    @pytest.mark.parametrize("estimator", [log_evidence, elbo])
    def test_one_after_the_other_they_are_estimated_as_tensors_are(self, estimator) -> None:
        program = cvae((6,), 2, classes=3, hidden=(4,))
        x = torch.rand(50, 6).round()
        y = torch.arange(50) % 3
        batches = Split(x, y).batches(20, shuffle=False)
        found = estimator(program, None, batches, particles=30, seed=0)
        assert found.value.shape == (50,)
        first = estimator(program, None, x[:20], y[:20], particles=30, seed=0)
        for name, values in vars(first).items():
            if values is not None:
                assert torch.equal(getattr(found, name)[:20], values)
        whole = estimator(program, None, x, y, particles=30, seed=0)
        error = (found.standard_error**2 + whole.standard_error**2).sqrt()
        assert bool(((found.value - whole.value).abs() < 5 * error).all())
        again = estimator(program, None, batches, particles=30, seed=0)
        assert torch.equal(found.value, again.value)

    def test_ppca_from_a_wrong_proposal(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        program, x = ppca
        found = log_evidence(program, wide(program), [(x[:30],), (x[30:],)], particles=2000, seed=0)
        assert agrees(found, program.exact_log_evidence(x))

    def test_labels_that_a_program_has_no_use_for_are_left_out(self) -> None:
        batches = Split(torch.ones(6, 4), torch.zeros(6).long()).batches(3)
        assert log_evidence(vae((4,), 2), None, batches, particles=2).value.shape == (6,)

    def test_a_seed_leaves_the_generator_and_fixes_what_is_binarised(self) -> None:
        batches = Split(torch.full((40, 9), 0.5), binarize="dynamic").batches(16)
        program = vae((9,), 2, hidden=(4,))
        state = torch.get_rng_state()
        one, other = (log_evidence(program, None, batches, particles=3, seed=4) for _ in range(2))
        assert torch.equal(one.value, other.value)
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize(
        ("batches", "said"),
        [
            ([(torch.ones(2, 4),), (torch.ones(2, 5),)], "of one shape, got \\(4,\\) and \\(5,\\)"),
            ([(torch.ones(2, 4),), (torch.full((2, 4), math.nan),)], "finite data, got NaN"),
            ([(torch.ones(2, 4),), (torch.full((2, 4), 0.5),)], "in the support of Bernoulli"),
            ([("x",)], "tuples .* of tensors, got builtins.tuple"),
            ([()], "tuples .* of tensors"),
            ([], "data as a tensor, got builtins.list"),
            (iter([(torch.ones(2, 4),)]), "data as a tensor, got builtins.list_iterator"),
        ],
    )
    def test_bad_ones_are_refused(self, batches: object, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            log_evidence(vae((4,), 2), None, batches, particles=2)  # type: ignore[arg-type]

    def test_context_beside_them_is_refused(self) -> None:
        with pytest.raises(ValueError, match="context within the batches"):
            log_evidence(vae((4,), 2), None, [(torch.ones(2, 4),)], torch.ones(2), particles=2)
