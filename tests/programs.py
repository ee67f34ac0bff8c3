"""The programs that every law is held against: name -> (program, data, context)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_gen import data, guides, likelihoods
from ppl_gen.flows import coupling_flow
from ppl_gen.guides import DiagonalGaussian, SemiAmortised, bounded, from_prior, on_sphere
from ppl_gen.models import (
    VAE,
    StackedVAE,
    ali,
    cgan,
    conv_cgan,
    conv_cvae,
    conv_vae,
    cvae,
    dcgan,
    draw,
    factor_analysis,
    gan,
    gaussian,
    gaussian_mixture,
    gmmn,
    hierarchical_vae,
    ss_vae,
    text_vae,
    toy,
    vae,
)
from ppl_gen.nn import Condition, conv_features, mlp
from ppl_gen.priors import (
    ConditionalMixture,
    Delayed,
    FlowPrior,
    Horseshoe,
    Hypersphere,
    Labels,
    MixtureOfGaussians,
    SpikeAndSlab,
    StandardNormal,
    Uniform,
    VampPrior,
)
from ppl_gen.program import Observed, register

Made = tuple[nn.Module, Tensor, list[Tensor]]


class TwoLayers(nn.Module):
    """z2 ~ N(0, I), z1 ~ N(f(z2), I), x ~ Bernoulli(g(z1)): the guide goes from x up."""

    def __init__(self) -> None:
        super().__init__()
        self.down = mlp([2, 8, 3])
        self.decoder = mlp([3, 8, 64])
        self.up1 = DiagonalGaussian(mlp([64, 8, 6]))
        self.up2 = DiagonalGaussian(mlp([3, 8, 4]))
        self.prior = StandardNormal(2)

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        register(self)
        with pyro.plate("data", n if x is None else x.shape[0]):
            z2 = pyro.sample("z2", self.prior())
            z1 = pyro.sample("z1", dist.Normal(self.down(z2), 1.0).to_event(1))
            return pyro.sample("x", dist.Bernoulli(logits=self.decoder(z1)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        register(self)
        with pyro.plate("data", x.shape[0]):
            z1 = pyro.sample("z1", self.up1(x))
            pyro.sample("z2", self.up2(z1))


class PixelPlate(nn.Module):
    """A program whose pixels are in a plate of their own, right of the data plate.

    No axis of x is an event axis.
    """

    def __init__(self) -> None:
        super().__init__()
        self.decoder = mlp([2, 8, 64])
        self.encoder = DiagonalGaussian(mlp([64, 8, 4]))
        self.prior = StandardNormal(2)

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        register(self)
        n = n if x is None else x.shape[0]
        zeros = self.decoder[0].weight.new_zeros(2)
        prior = dist.Normal(zeros, 1.0).expand([n, 1, 2])
        pixels = pyro.plate("pixels", 64, dim=-1)
        rows = pyro.plate("data", n, dim=-2)
        with rows:
            z = pyro.sample("z", prior.to_event(1))
            with pixels:
                return pyro.sample("x", dist.Bernoulli(logits=self.decoder(z).squeeze(-2)), obs=x)

    def guide(self, x: Tensor) -> None:
        register(self)
        with pyro.plate("data", x.shape[0], dim=-2):
            loc, log_scale = self.encoder.net(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc[:, None], log_scale.exp()[:, None]).to_event(1))


def student_t(loc: Tensor) -> dist.StudentT:
    """A user's own likelihood: a function and nothing else."""
    return dist.StudentT(4.0, loc, 0.1)


def digits(**options: str) -> data.Split:
    return data.load("digits", **options).train


def _binary(count: int = 6) -> Tensor:
    return digits(binarize="threshold").x[:count]


def _grey(count: int = 6) -> Tensor:
    return digits().x[:count].clamp(0.01, 0.99)


def _counts(count: int = 6) -> Tensor:
    return (16 * digits().x[:count]).round()


def _holes(count: int = 6) -> Tensor:
    x = _binary(count)
    return x.masked_fill(torch.rand(x.shape) < 0.3, torch.nan)


def _masked() -> likelihoods.Masked:
    return likelihoods.Masked(likelihoods.Bernoulli())


def _table() -> Made:
    table = likelihoods.Table(
        {
            "size": likelihoods.Gaussian(),
            "smokes": likelihoods.Bernoulli(),
            "children": likelihoods.Poisson(),
            "eyes": likelihoods.Label(3),
        }
    )
    x = torch.tensor(
        [[0.3, 1, 2, 0], [-1.2, 0, 0, 2], [0.5, torch.nan, 3, 1], [1.1, 1, 1, torch.nan]]
    )
    return vae((4,), 2, hidden=(8,), likelihood=likelihoods.Masked(table)), x, []


def _linear() -> nn.Module:
    return VAE(
        StandardNormal(3),
        nn.Linear(3, 64),
        likelihoods.Gaussian(),
        DiagonalGaussian(nn.Linear(64, 6)),
    )


def _with(likelihood: nn.Module, x: Callable[[], Tensor] = _grey) -> Callable[[], Made]:
    """Each time with a likelihood of its own: some tests send programs to other devices."""
    return lambda: (
        vae((1, 8, 8), 3, hidden=(16,), likelihood=copy.deepcopy(likelihood)),
        x(),
        [],
    )


def _toy_curve() -> Made:
    curve = toy.Curve(lambda z: torch.cat([z, z.square()], -1), 0.3)
    curve.guide = _gaussian_guide
    return curve, torch.randn(6, 2), []


def _gaussian_guide(x: Tensor) -> None:
    with pyro.plate("data", x.shape[0]):
        pyro.sample("z", dist.Normal(x[:, :1], 0.5).to_event(1))


def _labels(count: int = 6) -> list[Tensor]:
    return [torch.tensor([0, 3, 9, -1, 3, 5])[:count]]


def _with_prior(prior: Callable[[], nn.Module]) -> Callable[[], Made]:
    return lambda: (vae((1, 8, 8), 3, hidden=(16,), prior=prior()), _binary(), [])


def _begun() -> nn.Module:
    """A learned mixture that has taken the place of N(0, I)."""
    prior = Delayed(MixtureOfGaussians(3, 4), 3)
    prior.begin()
    return prior


def _given_label(prior: Callable[[], nn.Module]) -> Callable[[], Made]:
    return lambda: (
        cvae((1, 8, 8), 3, classes=10, hidden=(16,), prior=prior()),
        _binary(),
        _labels(),
    )


def _of_guide(made: Made) -> Made:
    """The same program with a VampPrior of its encoder."""
    program, x, context = made
    program.prior = VampPrior(program.encoder, torch.rand(4, *x.shape[1:]))
    return program, x, context


def _with_guide(family: guides.Family) -> Callable[[], Made]:
    return lambda: (vae((1, 8, 8), 3, hidden=(16,), guide=family), _binary(), [])


def _semi_amortised(made: Made) -> Made:
    """The same program, its guide made better by two steps."""
    program, x, context = made
    slots = (program.encoder, program.prior, program.decoder, program.likelihood)
    program.encoder = SemiAmortised(*slots, steps=2)
    return program, x, context


def _observed(implicit: nn.Module, x: Tensor, *context: Tensor) -> Made:
    """An implicit program under a small Gaussian, with its prior as guide."""
    program: Any = Observed(implicit, likelihoods.Gaussian(0.5))
    program.guide = from_prior(program)
    return program, x, list(context)


PROGRAMS: dict[str, Callable[[], Made]] = {
    "vae": _with(likelihoods.Bernoulli(), _binary),
    "vae, continuous Bernoulli": _with(likelihoods.ContinuousBernoulli()),
    "vae, Gaussian": _with(likelihoods.Gaussian()),
    "vae, Gaussian of fixed scale": _with(likelihoods.Gaussian(0.2)),
    "vae, heteroscedastic Gaussian": _with(likelihoods.HeteroscedasticGaussian()),
    "vae, a scale for each datum": _with(likelihoods.IsotropicGaussian()),
    "vae, Laplace": _with(likelihoods.Laplace()),
    "vae, discretised logistic": _with(
        likelihoods.DiscretizedLogistic(levels=17), lambda: digits().x[:6]
    ),
    "vae, categorical": _with(likelihoods.Categorical(17), lambda: digits().x[:6]),
    "vae, Student's t": _with(likelihoods.StudentT(df=None)),
    "vae, Beta": _with(likelihoods.Beta()),
    "vae, log-normal": _with(likelihoods.LogNormal()),
    "vae, Poisson": _with(likelihoods.Poisson(), _counts),
    "vae, negative binomial": _with(likelihoods.NegativeBinomial(shape=(1, 8, 8)), _counts),
    "vae, zero-inflated": _with(
        likelihoods.ZeroInflated(likelihoods.NegativeBinomial(decoded=True)), _counts
    ),
    "vae, labels": _with(likelihoods.Label(17), _counts),
    "vae, masked": _with(_masked(), _holes),
    "vae, a table with holes": _table,
    "vae, lifted": _with(likelihoods.of(dist.Gamma, concentration=nn.functional.softplus)),
    "vae, discretised mixture": _with(
        likelihoods.DiscretizedMixture(1, 3, levels=17), lambda: digits().x[:6]
    ),
    "conv-vae, discretised mixture of colours": lambda: (
        conv_vae((3, 9, 8), 2, likelihood=likelihoods.DiscretizedMixture(components=2, levels=5)),
        (4 * torch.rand(4, 3, 9, 8)).round() / 4,
        [],
    ),
    "vae, a function": lambda: (vae((1, 8, 8), 3, likelihood=student_t), _grey(), []),
    "vae, linear": lambda: (_linear(), _grey().flatten(1), []),
    "vae, vectors": lambda: (
        vae((2,), 1, likelihood=likelihoods.Gaussian()),
        torch.randn(6, 2),
        [],
    ),
    "conv-vae, 8 × 8": lambda: (conv_vae((1, 8, 8), 3), _binary(), []),
    "conv-vae, 3 × 13 × 10": lambda: (
        conv_vae((3, 13, 10), 3),
        torch.rand(4, 3, 13, 10).round(),
        [],
    ),
    "conv-vae, heteroscedastic": lambda: (
        conv_vae((3, 9, 8), 2, likelihood=likelihoods.HeteroscedasticGaussian()),
        torch.rand(4, 3, 9, 8),
        [],
    ),
    "cvae, labels": lambda: (cvae((1, 8, 8), 3, classes=10, hidden=(16,)), _binary(), _labels()),
    "cvae, attributes": lambda: (
        cvae((1, 8, 8), 3, attributes=4, hidden=(16,)),
        _binary(),
        [torch.rand(6, 4)],
    ),
    "cvae, prior without label": lambda: (
        cvae((1, 8, 8), 3, classes=10, hidden=(16,), prior=StandardNormal(3)),
        _binary(),
        _labels(),
    ),
    "conv-cvae, labels": lambda: (
        conv_cvae((1, 8, 8), 3, classes=10, hidden=16),
        _binary(),
        _labels(),
    ),
    "conv-cvae, images": lambda: (
        conv_cvae((1, 8, 8), 3, attributes=16, embed=conv_features((1, 8, 8), 16), hidden=16),
        _binary(),
        [torch.rand(6, 1, 8, 8)],
    ),
    "cvae, images": lambda: (
        cvae((1, 8, 8), 3, attributes=64, embed=nn.Flatten(-3), hidden=(16,)),
        _binary(),
        [torch.rand(6, 1, 8, 8)],
    ),
    "vae, mixture prior": _with_prior(lambda: MixtureOfGaussians(3, 4)),
    "vae, delayed mixture prior": _with_prior(_begun),
    "vae, VampPrior": lambda: _of_guide(_with(likelihoods.Bernoulli(), _binary)()),
    "vae, flow prior": _with_prior(lambda: FlowPrior(coupling_flow(3, hidden=(8,)))),
    "conv-vae, VampPrior": lambda: _of_guide((conv_vae((1, 8, 8), 3), _binary(), [])),
    "cvae, mixture prior": _given_label(
        lambda: ConditionalMixture(Condition(nn.Linear(10, 2 * 7), 10), 2)
    ),
    "cvae, VampPrior": lambda: _of_guide(_given_label(lambda: StandardNormal(3))()),
    "cvae, flow prior": _given_label(
        lambda: FlowPrior(coupling_flow(3, 4, hidden=(8,)), Condition(nn.Linear(10, 4), 10))
    ),
    "vae on a sphere": lambda: (
        vae((1, 8, 8), 3, hidden=(16,), prior=Hypersphere(3), guide=on_sphere),
        _binary(),
        [],
    ),
    "vae, uniform prior": lambda: (
        vae((1, 8, 8), 3, hidden=(16,), prior=Uniform(3), guide=bounded),
        _binary(),
        [],
    ),
    "vae, full covariance": _with_guide(guides.full_covariance),
    "vae, low rank": _with_guide(guides.low_rank),
    "vae, mixture guide": _with_guide(guides.mixture),
    "vae, flow guide": _with_guide(partial(guides.flow, context=4, hidden=(8,))),
    "vae, semi-amortised": lambda: _semi_amortised(_with_guide(guides.diagonal)()),
    "conv-vae, full covariance": lambda: (
        conv_vae((1, 8, 8), 3, hidden=16, guide=guides.full_covariance),
        _binary(),
        [],
    ),
    "cvae, flow guide": lambda: (
        cvae((1, 8, 8), 3, classes=10, hidden=(16,), guide=partial(guides.flow, context=4)),
        _binary(),
        _labels(),
    ),
    "cvae, semi-amortised": lambda: _semi_amortised(_given_label(lambda: StandardNormal(3))()),
    "vae, horseshoe": _with_prior(lambda: Horseshoe(3)),
    "vae, spike and slab": _with_prior(lambda: SpikeAndSlab(3)),
    "gan, mixture prior, observed": lambda: _observed(
        gan((1, 8, 8), 3, hidden=(16,), prior=MixtureOfGaussians(3, 4)), _grey()
    ),
    "vae observed under a Gaussian": lambda: (
        Observed(vae((1, 8, 8), 3, hidden=(16,)), likelihoods.Gaussian()),
        _grey(),
        [],
    ),
    "gan, observed": lambda: _observed(gan((1, 8, 8), 3, hidden=(16,)), _grey()),
    "gan of vectors, observed": lambda: _observed(gan((2,), 3, hidden=(16,)), torch.randn(6, 2)),
    "ali, observed": lambda: (
        Observed(ali((1, 8, 8), 3, hidden=(16,)), likelihoods.Gaussian(0.5)),
        _grey(),
        [],
    ),
    "dcgan, observed": lambda: _observed(dcgan((1, 8, 8), 3, width=4), _grey()),
    "dcgan of a uniform code, observed": lambda: _observed(
        dcgan((3, 13, 10), 3, width=4, prior=Uniform(3)), torch.rand(4, 3, 13, 10)
    ),
    "cgan of labels, observed": lambda: _observed(
        cgan((1, 8, 8), 3, classes=10, hidden=(16,)), _grey(), *_labels()
    ),
    "cgan of images, observed": lambda: _observed(
        cgan((1, 8, 8), 3, attributes=64, embed=nn.Flatten(), hidden=(16,)),
        _grey(),
        torch.rand(6, 1, 8, 8),
    ),
    "conv-cgan of labels, observed": lambda: _observed(
        conv_cgan((1, 8, 8), 3, classes=10, width=4), _grey(), *_labels()
    ),
    "gmmn, observed": lambda: _observed(gmmn((1, 8, 8), 3, hidden=(16,)), _grey()),
    "draw": lambda: (draw((1, 8, 8), 2, steps=3, hidden=12), _binary(), []),
    "draw, attention": lambda: (
        draw((1, 8, 8), 2, steps=2, hidden=12, attention=(2, 3)),
        _binary(),
        [],
    ),
    "draw, masked": lambda: (
        draw((1, 8, 8), 2, steps=2, hidden=8, likelihood=_masked()),
        _holes(),
        [],
    ),
    "draw, attention and a scale per datum": lambda: (
        draw(
            (1, 8, 8),
            2,
            steps=2,
            hidden=8,
            attention=(2, 3),
            likelihood=likelihoods.IsotropicGaussian(),
        ),
        _grey(),
        [],
    ),
    "draw, heteroscedastic vectors": lambda: (
        draw((2,), 1, steps=2, hidden=8, likelihood=likelihoods.HeteroscedasticGaussian()),
        torch.randn(6, 2),
        [],
    ),
    "text-vae": lambda: (
        text_vae(4, 5, 2, hidden=12, embedding=6, word_dropout=0.3),
        torch.tensor([[1, 2, 0, 0, 0], [3, 3, 3, 3, 3], [2, 1, 1, 0, 0], [0, 0, 0, 0, 0]]),
        [],
    ),
    "two latent layers": lambda: (TwoLayers(), _binary().flatten(1), []),
    "hierarchical-vae": lambda: (
        hierarchical_vae((1, 8, 8), (4, 3), hidden=(16,)),
        _binary(),
        [],
    ),
    "hierarchical-vae, three layers from the top": lambda: (
        hierarchical_vae((1, 8, 8), (4, 3, 2), hidden=(16,), top_down=True),
        _binary(),
        [],
    ),
    "hierarchical-vae, masked": lambda: (
        hierarchical_vae((1, 8, 8), (4, 3), hidden=(16,), likelihood=_masked()),
        _holes(),
        [],
    ),
    "hierarchical-vae, masked and a scale per datum, from the top": lambda: (
        hierarchical_vae(
            (1, 8, 8),
            (4, 3),
            hidden=(16,),
            top_down=True,
            likelihood=likelihoods.Masked(likelihoods.IsotropicGaussian()),
        ),
        _holes(),
        [],
    ),
    "ss-vae": lambda: (ss_vae((1, 8, 8), 3, classes=10, hidden=(16,)), _binary(), []),
    "ss-vae, some labels": lambda: (
        ss_vae((1, 8, 8), 3, classes=10, hidden=(16,), labels=Labels(10, learned=True)),
        _binary(),
        _labels(),
    ),
    "ss-vae, masked and a scale per datum": lambda: (
        ss_vae(
            (1, 8, 8),
            3,
            classes=10,
            hidden=(16,),
            likelihood=likelihoods.Masked(likelihoods.IsotropicGaussian()),
        ),
        _holes(),
        _labels(),
    ),
    "stacked vae, some labels": lambda: (
        StackedVAE(
            vae((1, 8, 8), 4, hidden=(16,)),
            ss_vae(
                (4,),
                3,
                classes=10,
                hidden=(16,),
                likelihood=likelihoods.HeteroscedasticGaussian(),
            ),
        ),
        _binary(),
        _labels(),
    ),
    "pixels in a plate": lambda: (PixelPlate(), _binary().flatten(1), []),
    "toy PPCA": lambda: (toy.PPCA(torch.randn(5, 2), torch.zeros(5), 0.5), torch.randn(6, 5), []),
    "gaussian": lambda: (gaussian(_grey(), ridge=0.01), _grey(), []),
    "gaussian mixture": lambda: (
        gaussian_mixture(torch.randn(40, 3), 2, ridge=0.1),
        torch.randn(6, 3),
        [],
    ),
    "factor analysis": lambda: (factor_analysis(_grey(), 2, ridge=0.05), _grey(), []),
    "toy mixture": lambda: (
        toy.GaussianMixture(torch.ones(3), torch.randn(3, 2), 0.5),
        torch.randn(6, 2),
        [],
    ),
    "toy curve": _toy_curve,
}
