"""The vocabulary: registering, drawing, reading densities, swapping likelihoods."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from programs import TwoLayers, digits
from pyro import poutine
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_gen.contexts import evaluating, takes
from ppl_gen.inference import svi_step
from ppl_gen.likelihoods import Dirac, Gaussian
from ppl_gen.models import conv_vae, cvae, toy, vae
from ppl_gen.nn import Condition
from ppl_gen.program import (
    LogDensity,
    Observed,
    Proposal,
    log_density,
    per_datum,
    propose,
    reconstruct,
    register,
    simulate,
)


class TestPerDatum:
    @pytest.mark.parametrize("events", [0, 1, 2, 3])
    def test_axes_right_of_the_data_become_event_axes_whatever_the_user_did(
        self, events: int
    ) -> None:
        d = dist.Normal(torch.zeros(7, 5, 1, 8, 8), 1.0).to_event(events)
        assert per_datum(d, 2).batch_shape == (7, 5)
        assert per_datum(d, 2).event_shape == (1, 8, 8)

    def test_a_likelihood_that_swallows_the_data_axis_is_refused(self) -> None:
        with pytest.raises(
            ValueError,
            match=r"at least 1 batch axes, got batch shape \(\) and event shape \(5, 3\)",
        ):
            per_datum(dist.Normal(torch.zeros(5, 3), 1.0).to_event(2), 1)

    def test_a_torch_distribution_is_refused(self) -> None:
        with pytest.raises(
            ValueError, match=r"expected a distribution of pyro\.distributions, got torch"
        ):
            per_datum(torch.distributions.Normal(torch.zeros(5, 3), 1.0), 1)


class TestRegister:
    def test_without_a_listener_the_store_stays_empty(self) -> None:
        with poutine.trace() as listening:
            register(nn.Linear(2, 2))
        assert not pyro.get_param_store().keys()
        assert not listening.trace.nodes.keys() - {"_INPUT", "_RETURN"}

    def test_names_belong_to_parameters_not_to_places(self) -> None:
        one, two = nn.Linear(2, 2), nn.Linear(2, 2)
        with poutine.trace(param_only=True) as listening:
            register(one)
            register(two)
            register(nn.Sequential(one))  # the same parameters by another path
        values = [
            site["value"] for site in listening.trace.nodes.values() if site["type"] == "param"
        ]
        assert {id(v) for v in values} == {id(p) for p in [*one.parameters(), *two.parameters()]}
        assert len(pyro.get_param_store()) == 4

    def test_a_frozen_parameter_is_passed_over(self) -> None:
        layer = nn.Linear(2, 2)
        layer.weight.requires_grad_(False)
        with poutine.trace(param_only=True):
            register(layer)
        assert [name.split("@")[0] for name in pyro.get_param_store()] == ["bias"]

    def test_a_parameter_that_pyro_would_copy_is_refused(self) -> None:
        layer = nn.Linear(2, 3)
        layer.weight.data = layer.weight.data.T.contiguous().T
        with (
            poutine.trace(param_only=True),
            pytest.raises(ValueError, match="expected contiguous parameters, got weight"),
        ):
            register(layer)


class TestSimulate:
    def test_a_context_is_followed(self) -> None:
        program = cvae((1, 8, 8), 2, classes=10)
        assert simulate(program, 3, torch.tensor([1, 2, 3])).shape == (3, 1, 8, 8)

    def test_bad_counts(self) -> None:
        program = cvae((4,), 2, classes=3)
        with pytest.raises(ValueError, match="n of at least 1, got 0"):
            simulate(program, 0, torch.ones(0))
        with pytest.raises(ValueError, match="length n = 3, got 2; repeat it"):
            simulate(program, 3, torch.ones(2))
        with pytest.raises(ValueError, match="expected 1 context tensors"):
            simulate(program, 3)

    def test_a_label_out_of_range_is_named(self) -> None:
        with pytest.raises(
            ValueError, match="expected labels in 0, …, 9, or −1 where missing, got 3 to 10"
        ):
            simulate(cvae((1, 8, 8), 2, classes=10), 2, torch.tensor([3, 10]))

    def test_modes_come_back_even_after_an_error(self) -> None:
        program = vae((4,), 2)
        program.decoder.eval()
        with evaluating(program):
            assert not any(m.training for m in program.modules())
        with pytest.raises(AttributeError), evaluating(program):
            _ = program.no_such_attribute
        assert program.training
        assert program.encoder.training
        assert not program.decoder.training


class TestLogDensity:
    def test_the_halves_are_those_of_pyro(self, binary: Tensor) -> None:
        program = vae((1, 8, 8), 2)
        z = torch.randn(12, 2)
        trace = poutine.trace(poutine.condition(program.model, {"z": z})).get_trace(binary)
        trace.compute_log_prob()
        prior, likelihood = log_density(program.model, {"z": z}, binary)
        torch.testing.assert_close(prior, trace.nodes["z"]["log_prob"])
        torch.testing.assert_close(likelihood, trace.nodes["x"]["log_prob"])

    def test_a_scale_in_the_model_does_not_corrupt_the_density(self, binary: Tensor) -> None:
        program = vae((1, 8, 8), 2)
        z = torch.randn(12, 2)
        plain = log_density(program.model, {"z": z}, binary)
        scaled = log_density(poutine.scale(program.model, scale=7.0), {"z": z}, binary)
        assert torch.equal(plain.prior, scaled.prior)
        assert torch.equal(plain.likelihood, scaled.likelihood)

    def test_gradients_flow_to_latents_and_parameters(self, binary: Tensor) -> None:
        program = vae((1, 8, 8), 2)
        z = torch.randn(3, 12, 2, requires_grad=True)
        log_density(program.model, {"z": z}, binary).joint.sum().backward()
        assert z.grad is not None
        assert z.grad.abs().min() > 0

    def test_missing_and_surplus_latents_are_named(self) -> None:
        program, x = TwoLayers(), torch.ones(4, 64)
        with pytest.raises(ValueError, match="got none for 'z1'"):
            log_density(program.model, {"z2": torch.zeros(4, 2)}, x)
        with pytest.raises(ValueError, match=r"got one for \['w'\] as well"):
            log_density(program.model, {"w": torch.zeros(4)}, x)

    def test_a_latent_shared_by_all_data_is_refused(self) -> None:
        def model(x: Tensor | None = None, *, n: int = 1) -> None:
            w = pyro.sample("w", dist.Normal(0.0, 1.0))
            with pyro.plate("data", n if x is None else x.shape[0]):
                pyro.sample("x", dist.Normal(w, 1.0), obs=x)

        with pytest.raises(ValueError, match="inside the plate 'data', got 'w' outside"):
            log_density(model, {"w": torch.tensor(0.0)}, torch.zeros(3))

    @pytest.mark.parametrize(
        "make", [vae, conv_vae, lambda shape, dim: cvae(shape, dim, classes=10)]
    )
    def test_make_fx_traces_every_explicit_model(self, make: object, binary: Tensor) -> None:
        program: nn.Module = make((1, 8, 8), 2)
        context = [torch.arange(12) % 10] if takes(program.model) == 2 else []

        def score(z: Tensor, x: Tensor) -> Tensor:
            with pyro.validation_enabled(False):
                return log_density(program.model, {"z": z}, x, *context).joint

        z, other = torch.randn(12, 2), torch.randn(12, 2)
        graph = make_fx(score)(z, binary)
        assert torch.equal(graph(other, binary), score(other, binary))


class TestObserved:
    def test_a_bernoulli_vae_under_a_gaussian_is_centred_on_its_probabilities(
        self, binary: Tensor
    ) -> None:
        program, z = vae((1, 8, 8), 2), torch.randn(5, 12, 2)
        observed = Observed(program, Gaussian(0.3))
        probabilities = torch.sigmoid(program.decoder(z))
        expected = dist.Normal(probabilities, 0.3).to_event(3).log_prob(binary)
        torch.testing.assert_close(
            log_density(observed.model, {"z": z}, binary).likelihood, expected
        )

    def test_the_dirac_draws_means(self) -> None:
        program = vae((1, 8, 8), 2)
        torch.manual_seed(3)
        drawn = simulate(Observed(program, Dirac()), 4)
        torch.manual_seed(3)
        z = torch.randn(4, 2)
        torch.testing.assert_close(drawn, torch.sigmoid(program.decoder(z)).detach())

    def test_labels_that_the_program_does_not_take_are_left_out(self) -> None:
        x, y = next(iter(digits().batches(20)))
        observed = Observed(vae((1, 8, 8), 2), Gaussian())
        step = svi_step(observed, torch.optim.Adam(observed.parameters()))
        assert torch.isfinite(step(x, y)["elbo"])

    def test_a_program_without_guide_says_so(self) -> None:
        curve = toy.Curve(lambda z: z, 0.1)
        with pytest.raises(ValueError, match="Curve has no guide of its own: pass one"):
            Observed(curve, Gaussian(0.1)).guide(torch.zeros(2, 1))


class TestPropose:
    def test_draws_and_densities_are_those_of_the_guide(self, binary: Tensor) -> None:
        program = vae((1, 8, 8), 2)
        latents, log_prob = propose(program.guide, 1000, 1, binary)
        q = program.encoder(binary)
        torch.testing.assert_close(log_prob, q.log_prob(latents["z"]))
        error = (latents["z"].mean(0) - q.mean).abs() / (q.stddev / 1000**0.5)
        assert error.max() < 4.5  # 24 standard errors at once


def test_densities_and_proposals_are_shown_by_their_shapes() -> None:
    z = torch.zeros(4, 3, 2)
    assert repr(Proposal({"z": z}, z[..., 0])) == "latents z (4, 3, 2), with log density (4, 3)"
    assert repr(LogDensity(z[..., 0], z[..., 0])).endswith("each of shape (4, 3)")


def test_reconstruct_follows_the_data() -> None:
    x = digits().x[:5]
    program = toy.PPCA.maximum_likelihood(digits().x.flatten(1), 30)
    error = reconstruct(program, x.flatten(1)) - x.flatten(1)
    assert error.square().mean() < 2 * float(program.scale) ** 2


def test_takes_counts_data_and_context() -> None:
    assert takes(vae((4,), 2).model) == 1
    assert takes(cvae((4,), 2, classes=3).model) == 2
    assert takes(Observed(vae((4,), 2), Dirac()).model) == 1
    assert takes(Observed(Observed(cvae((4,), 2, classes=3), Dirac()), Dirac()).model) == 2
    assert takes(lambda x, *context: None) is None


class TestCondition:
    def test_a_label_speaks_in_prior_decoder_and_encoder_of_a_cvae(self, binary: Tensor) -> None:
        """Each density is read at the same z and x under two labels; one that is deaf to them would
        be equal.
        """
        program, z = cvae((1, 8, 8), 2, classes=10), torch.randn(12, 2)
        one, two = torch.zeros(12).long(), torch.ones(12).long()
        under_one, under_two = (log_density(program.model, {"z": z}, binary, y) for y in (one, two))
        assert (under_one.prior != under_two.prior).all()
        assert (under_one.likelihood != under_two.likelihood).all()
        scores = []
        for y in (one, two):
            guide = poutine.trace(poutine.condition(program.guide, {"z": z})).get_trace(binary, y)
            scores.append(guide.nodes["z"]["fn"].log_prob(z))
        assert (scores[0] != scores[1]).all()

    def test_a_missing_label_is_a_zero_code(self) -> None:
        code = Condition(nn.Linear(3, 1), 3).encode(torch.tensor([-1, 0, 2]), torch.float32)
        assert code.tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 1]]

    def test_leading_axes_share_the_context(self) -> None:
        net = Condition(nn.Linear(5, 2), 3)
        z, y = torch.randn(7, 4, 2), torch.tensor([0, 1, 2, -1])
        torch.testing.assert_close(net(z, y)[3], net(z[3], y))

    def test_a_label_out_of_range_is_named(self) -> None:
        with pytest.raises(
            ValueError, match="expected labels in 0, …, 2, or −1 where missing, got 0 to 3"
        ):
            Condition(nn.Linear(3, 1), 3)(torch.tensor([0, 3]))
