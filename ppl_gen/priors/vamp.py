"""p(z) the average of the guide over learned inputs: VampPrior."""

from __future__ import annotations

__all__ = ["VampPrior", "pseudo_inputs"]

import torch
from torch import Tensor, nn

from ppl_gen.arguments import expect_tensor
from ppl_gen.contexts import explained, seeded
from ppl_gen.counts import expect_at_least, expect_positive
from ppl_gen.distributions import Mixture
from ppl_gen.memory import expect_weights
from ppl_gen.protocols import Conditional, Distribution

_REMEDY = "give pseudo-inputs the shape of one datum, (K, *shape), as pseudo_inputs(x, K) does"


class VampPrior(nn.Module):
    """p(z) = (1/K) Σₖ q(z | uₖ): the guide at K learned pseudo-inputs u.

    Given a context it is p(z | y) = (1/K) Σₖ q(z | uₖ, y), with K encodings for each datum; without
    one there are K in all. A density costs K times that of the guide, a draw one encoding.

    The encoder is that of the program, held a second time: its parameters are one set for
    `parameters()`, optimisers, copies and files. Put the prior in its slot once the program is
    built: `program.prior = VampPrior(program.encoder, pseudo_inputs(x, 500))`.

    An encoder that still ignores its input costs nothing under this prior, and a short training may
    stay there: on MNIST after 20 epochs, β annealed over five of them, no latent was active (−199.9
    nats). Trained for half of the epochs under a standard normal first, then for one epoch in its
    pseudo-inputs alone and then in everything, the same VAE gained 1.5 nats by it
    (`tests/benchmarks/priors_table.py`). In the command that is `--prior vamp --prior-after 10`; a
    step trains the parameters of its optimiser alone:

        fit(svi_step(program, Adam(program.parameters())), batches, 10)
        program.prior = VampPrior(program.encoder, pseudo_inputs(x, 100))
        fit(svi_step(program, Adam([program.prior.pseudo_inputs])), batches, 1)
        fit(svi_step(program, Adam(program.parameters())), batches, 9)

    Args:
        encoder: q(z | x, y), of any family. In training, batch normalisation would see u as a batch
            of its own.
        pseudo_inputs: u at the start, (K, *shape), *shape being that of one datum.
        bounds: (a, b), the range of data, to which u is cut off (a hard tanh for (0, 1)); None for
            data of the whole line.

    Raises:
        ValueError: If u is no floating point tensor (K, *shape) with K of at least 1, not finite or
            out of bounds; when called, if the encoder cannot be called with u.

    Reference:
        Tomczak and Welling (2018), VAE with a VampPrior, eq. 9.

    Examples:
        >>> from ppl_gen.models import vae
        >>> program = vae((1, 8, 8), 2)
        >>> program.prior = VampPrior(program.encoder, torch.rand(5, 1, 8, 8))
        >>> program.prior().sample((7,)).shape
        torch.Size([7, 2])
    """

    def __init__(
        self,
        encoder: Conditional,
        pseudo_inputs: Tensor,
        *,
        bounds: tuple[float, float] | None = (0.0, 1.0),
    ) -> None:
        super().__init__()
        _check_pseudo_inputs(pseudo_inputs, bounds)
        self.encoder = encoder
        self.pseudo_inputs = nn.Parameter(pseudo_inputs.detach().clone())
        self.bounds = bounds

    def inputs(self) -> Tensor:
        """u within its bounds, (K, *shape)."""
        if self.bounds is None:
            return self.pseudo_inputs
        return self.pseudo_inputs.clamp(*self.bounds)

    def forward(self, *context: Tensor) -> Distribution:
        u = self.inputs()
        every = u
        if context:
            n = context[0].shape[0]
            every = u.unsqueeze(1).expand(len(u), n, *u.shape[1:])
        with explained(f"an encoder that takes pseudo-inputs of shape {tuple(u.shape)}", _REMEDY):
            components = self.encoder(every, *context)
        weights = u.new_zeros(len(u), *[1] * (len(components.batch_shape) - 1))
        return Mixture(weights, components, lambda k: self.encoder(u[k], *context))


def _check_pseudo_inputs(u: Tensor, bounds: tuple[float, float] | None) -> None:
    """Raises ValueError unless these are K points within bounds."""
    expect_tensor("pseudo-inputs", u)
    if u.dim() < 2 or 0 in u.shape or not u.is_floating_point():
        raise ValueError(
            "expected pseudo-inputs (K, *shape) of a floating dtype, K of at least 1, got "
            f"{u.dtype} of shape {tuple(u.shape)}; {_REMEDY}"
        )
    if not bool(torch.isfinite(u).all()):
        raise ValueError(
            "expected finite pseudo-inputs, got NaN or infinite values; take rows of the data, or "
            "their mean with noise (pseudo_inputs)"
        )
    if bounds is None:
        return
    lower, upper = bounds
    if not lower < upper:
        raise ValueError(f"expected bounds (a, b) with a < b, got {bounds}; give the range of data")
    if float(u.min()) < lower or float(u.max()) > upper:
        raise ValueError(
            f"expected pseudo-inputs from {lower} to {upper}, got values from {float(u.min()):.3g} "
            f"to {float(u.max()):.3g}; say bounds=(a, b), the range of data, or bounds=None for "
            "data of the whole line"
        )


def pseudo_inputs(
    x: Tensor, count: int, *, noise: float | None = None, seed: int | None = None
) -> Tensor:
    """u₁, …, u_K to begin with: rows of the data, or their mean with noise, within their range.

    Args:
        x: Data (N, *shape), in the range that pseudo-inputs are to have; grey images for binary
            ones.
        count: K. Rows are drawn without repetition while there are enough.
        noise: The standard deviation of what is added to the mean, in the units of x; None takes
            rows.
        seed: Seeds the draws and leaves the global generator as it was; None draws from the global
            generator.

    Returns:
        u, (K, *shape).

    Raises:
        ValueError: If x are no finite data, K is below 1, or the noise is not positive.

    Examples:
        >>> digits = data.load("digits")
        >>> pseudo_inputs(digits.train.x, 50, seed=0).shape
        torch.Size([50, 1, 8, 8])
    """
    _check_pseudo_inputs(x, None)
    expect_at_least(1, **{"pseudo-inputs": count})
    expect_positive(noise=noise)
    expect_weights((count, *x.shape[1:]))
    with seeded(x.device, seed):
        if noise is None:
            rounds = -(-count // len(x))
            orders = [torch.randperm(len(x), device=x.device) for _ in range(rounds)]
            return x[torch.cat(orders)[:count]].clone()
        drawn = x.mean(0) + noise * torch.randn(count, *x.shape[1:], dtype=x.dtype, device=x.device)
    return drawn.clamp(x.amin(), x.amax())
