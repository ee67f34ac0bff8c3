"""The semi-supervised VAE: a label y ~ p(y), known of some data, z ~ p(z), x ~ p(x | y, z)."""

from __future__ import annotations

__all__ = ["SUMMED", "SemiSupervisedVAE", "count_of", "ss_vae"]

import math
from collections.abc import Sequence

import pyro
from torch import Tensor, nn

from ppl_gen.guides import Classifier, Family, diagonal, guide_of_family
from ppl_gen.labels import revealed
from ppl_gen.likelihoods import (
    Bernoulli,
    parameters_per_datum,
    parameters_per_value,
    takes_missing,
)
from ppl_gen.nn import Activation, Condition, Shape, mlp, mlp_of_data, network_of_data
from ppl_gen.priors import Labels, StandardNormal
from ppl_gen.program import per_datum, register
from ppl_gen.protocols import Conditional

# What tells TraceEnum_ELBO, and evaluators, to sum the label out.
SUMMED = {"enumerate": "parallel"}


class SemiSupervisedVAE(nn.Module):
    """p(x, y, z) = p(y) p(z) p(x | decoder(z, y)), with the guide q(y | x) q(z | x, y): M2.

    The label is a latent at the site "y", and a context as well, −1 where missing: what is known
    of it is given, p(x | y) is the density of a labelled datum and p(x) = Σₖ p(k) p(x | k) that of
    another. Evaluators take x alone, or x and y.

    Args:
        labels: `labels()` is p(y), a Categorical.
        prior: `prior()` is p(z).
        decoder: Maps z (*batch, D) and y (*batch) to the likelihood's parameters.
        likelihood: `likelihood(decoder(z, y))` is p(x | z, y).
        classifier: `classifier(x)` is q(y | x), a Categorical.
        encoder: `encoder(x, y)` is q(z | x, y).

    Examples:
        >>> from ppl_gen.inference import label_probabilities
        >>> program = ss_vae((4,), latent_dim=2, classes=3, hidden=[8])
        >>> label_probabilities(program, torch.zeros(5, 4)).shape
        torch.Size([5, 3])

    Reference:
        Kingma, Rezende, Mohamed and Welling (2014), Semi-supervised learning with deep generative
        models, eq. 2 and 4. Its eq. 9 is the objective `Enumerated(labels=α)` of
        `ppl_gen.inference.fitting.objectives`; Pyro's TraceEnum_ELBO is that without α.
    """

    def __init__(
        self,
        labels: Conditional,
        prior: Conditional,
        decoder: nn.Module,
        likelihood: Conditional,
        classifier: Conditional,
        encoder: Conditional,
    ) -> None:
        super().__init__()
        self.labels = labels
        self.prior = prior
        self.decoder = decoder
        self.likelihood = likelihood
        self.classifier = classifier
        self.encoder = encoder

    def model(
        self, x: Tensor | None = None, y: Tensor | None = None, *, n: int | None = None
    ) -> Tensor:
        """x of shape (N, *shape) is scored; with x = None, data are drawn, of the labels known.

        Args:
            x: Data (N, *shape), or None.
            y: Labels (N,), −1 where missing; None where all are.
            n: The number of draws; may be left out where there are data or labels.
        """
        register(self)
        prior = self.prior()
        with pyro.plate("data", count_of(x, y, n)):
            y = pyro.sample("y", revealed(self.labels(), y), infer=SUMMED)
            z = pyro.sample("z", prior)
            likelihood = self.likelihood(self.decoder(z, y))
            # Where labels are summed out, only y has an axis for them.
            batch_dims = max(z.dim() - prior.event_dim, y.dim())
            return pyro.sample("x", per_datum(likelihood, batch_dims), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """y ~ q(y | x) where it is not known, z ~ q(z | x, y)."""
        register(self)
        with pyro.plate("data", x.shape[0]):
            y = pyro.sample("y", revealed(self.classifier(x), y), infer=SUMMED)
            return pyro.sample("z", self.encoder(x, y))


def count_of(x: Tensor | None, y: Tensor | None, n: int | None) -> int:
    """The number of data: that of x, else of labels, else n, else 1.

    Args:
        x: Data (N, *shape), if any.
        y: Labels (N,), if any.
        n: What was asked for, if anything.
    """
    for given in (x, y):
        if given is not None:
            return given.shape[0]
    if n is None:
        return 1
    return n


def ss_vae(
    shape: Sequence[int],
    latent_dim: int,
    *,
    classes: int,
    hidden: Sequence[int] = (500,),
    activation: Activation = nn.Softplus,
    likelihood: Conditional | None = None,
    prior: Conditional | None = None,
    labels: Conditional | None = None,
    guide: Family = diagonal,
    classifier: Conditional | None = None,
) -> SemiSupervisedVAE:
    """A semi-supervised VAE of multilayer perceptrons.

    Args:
        shape: The shape of one datum, (C, H, W) or (D,).
        latent_dim: The dimension of z.
        classes: K, the number of labels.
        hidden: The widths from data to latent, and from data to label; the decoder has them in
            reverse. The defaults are those of Kingma et al. (2014), section 4.
        activation: Makes the module between two layers.
        likelihood: Bernoulli() if left out.
        prior: StandardNormal(latent_dim) if left out.
        labels: p(y); Labels(classes), which is uniform, if left out.
        guide: The family of q(z | x, y), a function of (net, dim) of `ppl_gen.guides` or one of
            your own.
        classifier: q(y | x); `Classifier` of a perceptron of the widths of `hidden` if left out.
            With few labels a convolutional one, learning ten times slower than the rest, does
            better.

    Raises:
        ValueError: If a size is below 1, there are fewer than 2 classes, the weights do not fit
            into memory, or `guide` is no family.

    Examples:
        >>> from ppl_gen.inference import svi_step
        >>> from ppl_gen.inference.fitting.objectives import Enumerated
        >>> program = models.ss_vae((4,), latent_dim=2, classes=3, hidden=[8])
        >>> optimizer = torch.optim.Adam(program.parameters(), 1e-3)
        >>> step = svi_step(program, optimizer, Enumerated(labels=0.1), engine="eager")
        >>> sorted(step(torch.zeros(5, 4), torch.tensor([0, 1, 2, -1, -1])))  # −1: no label
        ['gradient_norm', 'objective']
    """
    if labels is None:
        labels = Labels(classes)
    if likelihood is None:
        likelihood = Bernoulli()
    if prior is None:
        prior = StandardNormal(latent_dim)
    missing = takes_missing(likelihood)

    def net(outputs: int) -> nn.Module:
        def perceptron(seen: Sequence[int]) -> nn.Module:
            layers = mlp([math.prod(seen) + classes, *hidden, outputs], activation)
            return Condition(layers, classes, nn.Flatten(-len(seen)))

        return network_of_data(perceptron, shape, missing=missing)

    encoder = guide_of_family(guide, net, latent_dim)
    if classifier is None:
        classifier = Classifier(mlp_of_data(shape, [*hidden, classes], activation, missing=missing))
    last = Shape(shape, parameters_per_value(likelihood), parameters_per_datum(likelihood))
    of_latent = mlp([latent_dim + classes, *reversed(hidden), last.inputs], activation)
    decoder = Condition(nn.Sequential(of_latent, last), classes)
    return SemiSupervisedVAE(labels, prior, decoder, likelihood, classifier, encoder)
