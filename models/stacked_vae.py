"""The stacked semi-supervised VAE, M1+M2: labels of the codes of another VAE."""

from __future__ import annotations

__all__ = ["StackedVAE"]

import pyro
from torch import Tensor, nn

from ppl_gen.labels import revealed
from ppl_gen.models.ss_vae import SUMMED, SemiSupervisedVAE, count_of
from ppl_gen.models.vae import VAE
from ppl_gen.program import per_datum, register


class StackedVAE(nn.Module):
    """p(y) p(z2) p(z1 | z2, y) p(x | z1), with the guide q(z1 | x) q(y | z1) q(z2 | z1, y): M1+M2.

    A semi-supervised VAE stands in the place of another VAE's prior: it is one of codes z1, and so
    are its data. As in the paper, M1 is fitted first, and then held fast while M2 is fitted to
    draws of its codes; without `requires_grad_(False)` both are fitted together.

    The sites are "y", "z2", "z1" and "x". Labels are a context, −1 where missing, as of
    `SemiSupervisedVAE`.

    Args:
        below: M1: its decoder, likelihood and encoder are p(x | z1) and q(z1 | x); its prior is
            left out.
        above: M2, of data of the shape of z1.

    Examples:
        >>> import torch
        >>> from ppl_gen.likelihoods import HeteroscedasticGaussian
        >>> from ppl_gen.models import ss_vae, vae
        >>> m1 = vae((1, 28, 28), 50)
        >>> m2 = ss_vae((50,), 10, classes=10, likelihood=HeteroscedasticGaussian())
        >>> program = StackedVAE(m1.requires_grad_(False), m2)
        >>> program.model(None, torch.tensor([3, 7])).shape
        torch.Size([2, 1, 28, 28])

    Reference:
        Kingma, Rezende, Mohamed and Welling (2014), Semi-supervised learning with deep generative
        models, section 2.1, "Stacked generative semi-supervised model".
    """

    def __init__(self, below: VAE, above: SemiSupervisedVAE) -> None:
        super().__init__()
        self.below = below
        self.above = above

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
        above = self.above
        prior = above.prior()
        with pyro.plate("data", count_of(x, y, n)):
            y = pyro.sample("y", revealed(above.labels(), y), infer=SUMMED)
            z2 = pyro.sample("z2", prior)
            of_codes = above.likelihood(above.decoder(z2, y))
            # Where labels are summed out, only y has an axis for them.
            batch_dims = max(z2.dim() - prior.event_dim, y.dim())
            z1 = pyro.sample("z1", per_datum(of_codes, batch_dims))
            likelihood = self.below.likelihood(self.below.decoder(z1))
            return pyro.sample("x", per_datum(likelihood, z1.dim() - 1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """z1 ~ q(z1 | x), y ~ q(y | z1) where it is not known, z2 ~ q(z2 | z1, y)."""
        register(self)
        above = self.above
        with pyro.plate("data", x.shape[0]):
            z1 = pyro.sample("z1", self.below.encoder(x))
            y = pyro.sample("y", revealed(above.classifier(z1), y), infer=SUMMED)
            return pyro.sample("z2", above.encoder(z1, y))
