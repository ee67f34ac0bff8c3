"""Data come back to the last bit, as long as the bound says; what is not theirs is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from ppl_gen import likelihoods
from ppl_gen.data import Dataset
from ppl_gen.guides import full_covariance
from ppl_gen.inference import Compressed, compress, decompress, elbo, fit, svi_step
from ppl_gen.inference.compression.bins import Bins, Gaussian
from ppl_gen.inference.compression.masses import COUNTED, Coder, whole_masses
from ppl_gen.inference.compression.networks import Networks
from ppl_gen.likelihoods import (
    Bernoulli,
    Categorical,
    DiscretizedLogistic,
    DiscretizedMixture,
    Poisson,
)
from ppl_gen.models import VAE, cvae, hierarchical_vae, vae
from ppl_gen.priors import MixtureOfGaussians

SHAPE = (1, 4, 4)


def binary(n: int = 60, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(2, (n, *(shape or SHAPE)), generator=generator).float()


def on_grid(levels: int, n: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(levels, (n, *shape), generator=generator).float() / (levels - 1)


@pytest.fixture(scope="module")
def program() -> VAE:
    """Networks whose outputs vary: those of a new VAE say next to nothing."""
    torch.manual_seed(0)
    made = vae(SHAPE, 2, hidden=(8,))
    with torch.no_grad():
        for weights in made.parameters():
            weights.mul_(3)
    return made


@pytest.fixture(scope="module")
def compressed(program: VAE) -> Compressed:
    return compress(program, binary(), note="as they were")


class TestTheBits:
    @pytest.mark.parametrize("precision", [4, 7, 16])
    def test_data_come_back(self, program: VAE, precision: int) -> None:
        x = binary()
        held = compress(program, x, precision=precision).to_bytes()
        back = decompress(program, held)
        assert back.dtype == x.dtype
        assert torch.equal(back, x)

    def test_they_are_as_many_as_the_bound_says(self, program: VAE) -> None:
        x = binary(600)
        one = elbo(program, None, x, particles=200, seed=0)
        deviations = one.standard_error * 200**0.5
        expected = float(-one.value.sum()) / math.log(2)
        error = float(deviations.square().sum().sqrt()) / math.log(2)
        found = compress(program, x)
        seal = 64  # the last words are whole
        assert abs(found.bits - found.initial_bits - expected) < 4 * error + seal
        assert found.initial_bits <= 2 * found.precision + 64
        assert found.bits_per_datum == found.bits / 600
        assert found.bits_per_dimension == found.bits_per_datum / 16

    def test_a_latent_takes_its_divergence_or_the_bits_of_its_bins(self) -> None:
        """KL(N(0.3, e⁻¹²) ‖ N(0, 1)) = 8.0 bits in fine bins; one of 16 bins is 4 bits."""
        narrow = vae((2,), 1, hidden=(4,))
        last = [m for m in narrow.encoder.modules() if isinstance(m, torch.nn.Linear)][-1]
        with torch.no_grad():
            for weights in (*narrow.decoder.parameters(), last.weight):
                weights.zero_()
            last.bias.copy_(torch.tensor([0.3, -6.0]))
        x = binary(400, 2)
        divergence = (6 + (math.exp(-12) + 0.09) / 2 - 0.5) / math.log(2)
        for precision, of_the_latent in ((20, divergence), (4, 4.0)):
            found = compress(narrow, x, precision=precision)
            # q is a Gaussian whose squared deviations of the mean vary by √2.
            error = 2**0.5 / 2 / math.log(2) / 20
            assert abs((found.bits - found.initial_bits) / 400 - 2 - of_the_latent) < 4 * error

    @pytest.mark.parametrize(
        ("likelihood", "x"),
        [
            (Categorical(17), on_grid(17, 20, *SHAPE)),
            (Categorical(256), on_grid(256, 9, 1, 2, 2)),
            (DiscretizedLogistic(levels=5), on_grid(5, 20, *SHAPE)),
            (DiscretizedMixture(1, 2, 17), on_grid(17, 9, *SHAPE)),
            (DiscretizedMixture(3, 2, 17), on_grid(17, 9, 3, 2, 2)),
        ],
    )
    def test_other_likelihoods(self, likelihood: Any, x: Tensor) -> None:
        torch.manual_seed(0)
        made = vae(x.shape[1:], 2, hidden=(4,), likelihood=likelihood)
        assert torch.equal(decompress(made, compress(made, x)), x)

    @pytest.mark.parametrize(
        "prior",
        [
            lambda: dist.Laplace(torch.zeros(2), 1.0).to_event(1),
            lambda: dist.Normal(torch.tensor([1.0, -3.0]), torch.tensor([0.1, 9.0])).to_event(1),
        ],
    )
    def test_other_priors(self, program: VAE, prior: Callable[[], Any]) -> None:
        made = VAE(prior, program.decoder, program.likelihood, program.encoder)
        assert torch.equal(decompress(made, compress(made, binary())), binary())

    def test_a_stack_without_bits_gives_back_what_it_was_given(self, program: VAE) -> None:
        """Fifty latents take more bits than a datum has, so that the stack is drained at times."""
        torch.manual_seed(0)
        made = vae((2,), 50, hidden=(4,))
        x = binary(40, 2)
        assert torch.equal(decompress(made, compress(made, x)), x)

    def test_one_datum(self, program: VAE) -> None:
        assert torch.equal(decompress(program, compress(program, binary()[:1])), binary()[:1])

    def test_threads_and_settings_are_as_they_were(self, program: VAE) -> None:
        before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
        state = torch.get_rng_state()
        compress(program, binary())
        assert before == (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
        assert torch.equal(torch.get_rng_state(), state)
        assert program.training


class TestBins:
    def test_masses_are_those_of_the_posterior(self) -> None:
        bins = Bins(dist.Normal(torch.zeros(1, 2), torch.ones(2)), 8)
        posterior = Gaussian(
            torch.tensor([[0.3, -2.0]]).double(), torch.tensor([[0.5, 0.1]]).double()
        )
        zero = torch.zeros(1, 2, dtype=torch.int64)
        first = bins.masses(posterior, zero, 0, 4)
        second = torch.stack([bins.masses(posterior, zero + k, 4, 8) for k in range(16)], 2)
        with np.errstate(divide="ignore"):
            ends = norm.ppf(np.arange(257) / 256)
        for latent, (loc, scale) in enumerate([(0.3, 0.5), (-2.0, 0.1)]):
            exact = np.diff(norm.cdf(ends, loc, scale))
            found = second[0, latent].flatten().numpy()
            np.testing.assert_allclose(found, exact, atol=1e-7)
            np.testing.assert_allclose(first[0, latent], exact.reshape(16, 16).sum(1), atol=1e-7)

    def test_centres_are_quantiles(self) -> None:
        bins = Bins(dist.Normal(torch.zeros(1, 1), torch.ones(1)), 6)
        index = torch.arange(64)[:, None]
        expected = norm.ppf((np.arange(64) + 0.5) / 64)
        np.testing.assert_allclose(bins.centres(index)[:, 0], expected, atol=1e-6)

    def test_no_symbol_is_without_mass(self) -> None:
        masses = torch.tensor([[1.0, 0.0, 3.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
        expected = [[COUNTED / 4 + 1, 1, 3 * COUNTED / 4 + 1], [1, 1, 1]]
        assert whole_masses(masses).tolist() == expected
        with pytest.raises(ValueError, match="expected finite masses"):
            whole_masses(masses / 0)

    def test_what_is_popped_and_pushed_leaves_the_stack_as_it_was(self) -> None:
        words = np.arange(1, 30, dtype=np.uint32) * 2654435761
        coder = Coder(words, sealed=False)
        generator = torch.Generator().manual_seed(0)
        masses = whole_masses(torch.rand(40, 9, generator=generator, dtype=torch.float64))
        symbols = coder.pop(masses)
        uniform = coder.pop_uniform(5, 1000)
        assert len(set(symbols.tolist())) > 4
        coder.push_uniform(uniform, 1000)
        coder.push(symbols, masses)
        assert np.array_equal(coder.unsealed(), words)


class TestBytes:
    def test_they_hold_all(self, compressed: Compressed) -> None:
        held = compressed.to_bytes()
        again = Compressed.from_bytes(held)
        for name, value in vars(compressed).items():
            assert np.array_equal(getattr(again, name), value), name
        assert 8 * len(held) == compressed.bits + compressed.header_bits
        assert compressed.header_bits < 900

    @pytest.mark.parametrize("length", [0, 5, 25, 60, -1, -9])
    def test_cut_short(self, program: VAE, compressed: Compressed, length: int) -> None:
        with pytest.raises(ValueError, match="expected compressed data") as refused:
            decompress(program, compressed.to_bytes()[:length])
        assert "anew" in str(refused.value) or "make them" in str(refused.value)

    @pytest.mark.parametrize("place", [0.0, 0.1, 0.5, 0.99])
    def test_damaged(self, program: VAE, compressed: Compressed, place: float) -> None:
        held = bytearray(compressed.to_bytes())
        held[int(place * len(held))] ^= 4
        with pytest.raises(ValueError, match="expected compressed data"):
            decompress(program, bytes(held))

    @pytest.mark.parametrize(
        "changed",
        [
            {"count": 0},
            {"rows": 0},
            {"growth": 0},
            {"precision": 0},
            {"precision": 200},
            {"shape": (1, 5, 5)},
            {"shape": (0,)},
            {"shape": (2**31, 2**31)},
            {"words": np.zeros(0, np.uint32)},
            {"words": np.arange(400, dtype=np.uint32)[::-1]},
            {"words": np.arange(400, dtype=np.uint32)},
            {"initial_words": 10**6},
            {"dtype": "int64"},
            {"count": 10**9},
            {"count": 59},
        ],
    )
    def test_forged(self, program: VAE, compressed: Compressed, changed: dict[str, Any]) -> None:
        """With a right checksum, which anybody can compute."""
        held = replace(compressed, **changed).to_bytes()
        with pytest.raises(ValueError, match=r"expected|memory"):
            decompress(program, held)

    def test_of_a_newer_version(self, compressed: Compressed) -> None:
        held = compressed.to_bytes().replace(b"compressed 1\n", b"compressed 2\n")
        with pytest.raises(ValueError, match="version 2, of a newer ppl-gen"):
            Compressed.from_bytes(held)

    def test_of_another_program(self, compressed: Compressed) -> None:
        torch.manual_seed(1)
        with pytest.raises(ValueError, match="expected the program that the data were compressed"):
            decompress(vae(SHAPE, 2, hidden=(8,)), compressed)

    def test_of_other_floats(self, program: VAE, compressed: Compressed) -> None:
        elsewhere = replace(compressed, arithmetic=bytes(8))
        with pytest.raises(ValueError, match="put out the same numbers to the last bit"):
            decompress(program, elsewhere)

    def test_of_other_floats_on_the_way(
        self, program: VAE, compressed: Compressed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The last bit of one latent's mean differs, at a batch that the checksum does not see."""
        own = Networks.posterior

        def off(self: Networks, x: Tensor) -> Gaussian:
            found = own(self, x)
            if len(x) == self.rows:
                return found
            return Gaussian(found.loc * 1.05, found.scale)

        monkeypatch.setattr(Networks, "posterior", off)
        with pytest.raises(ValueError, match="expected the initial bits to be left"):
            decompress(program, compressed)


class TestBadInput:
    def test_a_note_without_end(self, program: VAE) -> None:
        with pytest.raises(ValueError, match="a note of at most 65535 bytes, got 65536"):
            compress(program, binary(), note="é" * 32768)

    @pytest.mark.parametrize("precision", [0, 3, 23, 2.5])
    def test_precision(self, program: VAE, precision: Any) -> None:
        with pytest.raises(ValueError, match="expected precision"):
            compress(program, binary(), precision=precision)

    @pytest.mark.parametrize(
        ("likelihood", "x"),
        [(likelihoods.Gaussian(1.0), binary()), (Poisson(), binary())],
    )
    def test_a_likelihood_that_lists_no_values(self, likelihood: Any, x: Tensor) -> None:
        made = vae(SHAPE, 2, hidden=(4,), likelihood=likelihood)
        with pytest.raises(ValueError, match="that lists its values, such as"):
            compress(made, x)

    def test_grey_pixels_under_bernoulli(self, program: VAE) -> None:
        with pytest.raises(ValueError, match="expected"):
            compress(program, binary() * 0.5)

    def test_values_beside_the_grid(self) -> None:
        made = vae(SHAPE, 2, hidden=(4,), likelihood=Categorical(8))
        x = on_grid(8, 5, *SHAPE)
        x[0, 0, 0, 0] = torch.tensor(3 / 7).nextafter(torch.tensor(1.0))
        with pytest.raises(ValueError, match="would not come back as it is; round"):
            compress(made, x)

    def test_a_context(self) -> None:
        made = cvae(SHAPE, 2, classes=3, hidden=(4,))
        with pytest.raises(ValueError, match="expected"):
            compress(made, binary())

    def test_several_latents(self) -> None:
        made = hierarchical_vae(SHAPE, (3, 2))
        with pytest.raises(ValueError, match="one flat latent z"):
            compress(made, binary())

    def test_a_guide_of_another_family(self, program: VAE) -> None:
        made = vae(SHAPE, 2, hidden=(4,), guide=full_covariance)
        with pytest.raises(ValueError, match="fit a vae with the guide diagonal"):
            compress(made, binary())

    def test_a_prior_without_quantiles(self, program: VAE) -> None:
        made = VAE(MixtureOfGaussians(2, 3), program.decoder, Bernoulli(), program.encoder)
        with pytest.raises(ValueError, match="which has no quantiles"):
            compress(made, binary())

    def test_one_guide_for_all_data(self, program: VAE) -> None:
        class Whole(torch.nn.Module):
            needs_all_data = True

            def __init__(self) -> None:
                super().__init__()
                self.encoder = program.encoder

            def forward(self, x: Tensor) -> Any:
                return program.guide(x)

        with pytest.raises(ValueError, match="function of the data"):
            compress(program, binary(), guide=Whole())


@pytest.mark.slow
def test_ten_thousand_digits_come_back(mnist: Callable[..., Dataset]) -> None:
    """Their length is within 1 % of −ELBO/log 2 plus the initial bits."""
    dataset = mnist(binarize="dynamic")
    torch.manual_seed(0)
    program = vae(dataset.shape, 20)
    step = svi_step(program, torch.optim.Adam(program.parameters(), 1e-3), engine="fx")
    fit(step, dataset.train.batches(100), epochs=3, progress=False)
    x = dataset.test.fixed(0).x
    held = compress(program, x)
    assert torch.equal(decompress(program, held.to_bytes()), x)
    bound = -float(elbo(program, None, x, particles=20, seed=0).mean()) / math.log(2)
    assert abs((held.bits - held.initial_bits) / len(x) / bound - 1) < 0.01
    assert held.initial_bits < 400
