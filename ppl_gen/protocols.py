"""The whole contract on one page: four shapes of callable. Nothing needs to inherit from them."""

from __future__ import annotations

__all__ = ["Conditional", "Distribution", "Guide", "Program", "Step"]

from collections.abc import Mapping
from typing import Any, Protocol

from pyro.distributions.torch_distribution import TorchDistributionMixin as Distribution
from torch import Tensor


class Conditional(Protocol):
    """p(· | context): any callable that returns a Pyro distribution.

    A prior `prior(*context)`, a likelihood `likelihood(decoder(z, *context))` and an encoder
    `encoder(x, *context)` are all of this kind, be they a function, a lambda or an `nn.Module`.

    Examples:
        >>> def heavy(loc):  # a likelihood
        ...     return dist.StudentT(4.0, loc, 0.1)
        >>> models.vae((4,), latent_dim=2, likelihood=heavy).likelihood is heavy
        True
    """

    def __call__(self, *context: Tensor) -> Distribution: ...


class Guide(Protocol):
    """q(z | x, context): a Pyro program that samples every latent site of the model.

    `guide(x, *context)` samples them inside the plate "data".

    Examples:
        >>> vae = models.vae((4,), latent_dim=2)
        >>> trace = pyro.poutine.trace(vae.guide).get_trace(torch.zeros(5, 4))
        >>> trace.nodes["z"]["value"].shape
        torch.Size([5, 2])
    """

    def __call__(self, x: Tensor, *context: Tensor) -> Any: ...


class Program(Protocol):
    """p(x, z | context): a plain Pyro model, which can be handed to Pyro unchanged.

    `model(x, *context)` scores x of shape (N, *shape); `model(None, *context, n=N)` draws it.
    Inside the plate "data" it samples the latents ("z") and the data ("x"). An explicit program
    also has a `guide(x, *context)`.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2)
        >>> vae.model(None, n=5).shape  # drawn
        torch.Size([5, 4])
        >>> vae.model(torch.zeros(3, 4)).shape  # scored
        torch.Size([3, 4])
    """

    @property
    def model(self) -> Any: ...


class Step(Protocol):
    """One update on one batch. Returns metrics averaged over the batch, as detached scalars.

    Examples:
        >>> from ppl_gen.inference import svi_step
        >>> vae = models.vae((4,), latent_dim=2)
        >>> step = svi_step(vae, torch.optim.Adam(vae.parameters(), 1e-3))
        >>> sorted(step(torch.zeros(5, 4)))
        ['elbo', 'gradient_norm']
    """

    def __call__(self, *batch: Tensor) -> Mapping[str, Tensor]: ...
