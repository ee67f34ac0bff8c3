"""How odd a datum is for a program: by its error, its evidence, or its neighbours in code."""

from __future__ import annotations

__all__ = ["code_distance", "improbability", "reconstruction_error"]

from typing import Any

from torch import Tensor

from ppl_gen.inference.codes.coder import decode, encode
from ppl_gen.inference.codes.neighbours import nearest
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.evidence.importance import log_evidence
from ppl_gen.protocols import Guide


def reconstruction_error(
    program: Any, x: Tensor, *context: Tensor, guide: Guide | None = None
) -> Tensor:
    """‖x − E[x | z]‖² at z = E[z | x], summed over a datum, (N,).

    Args:
        program: A program whose latents are one vector, or an autoencoder.
        x: Data (N, *shape).
        *context: What the program is conditioned on, each of length N.
        guide: q(z | x, context); `program.guide` if left out.

    Raises:
        ValueError: If there is no guide, the latents are not one vector, or the program cannot be
            run on the data.

    Examples:
        >>> x = torch.rand(100, 4)
        >>> reconstruction_error(models.pca(x, code_dim=2), x).shape
        torch.Size([100])
    """
    codes = encode(program, x, *context, guide=guide)
    decoded = decode(program, codes.mean, *context)
    if decoded.shape != x.shape:
        raise ValueError(
            f"expected data of the shape that is decoded, {tuple(decoded.shape)}, got "
            f"{tuple(x.shape)}; reshape them"
        )
    return (x - decoded).square().flatten(1).sum(1)


def improbability(
    program: Any,
    x: Tensor,
    *context: Tensor,
    guide: Guide | None = None,
    particles: int = 100,
    seed: int | None = None,
) -> Estimate:
    """−log p̂(x | context) by importance weighting, in nats, (N,): what a datum costs.

    An autoencoder has no density, and no such score: `models.with_prior` gives it one.

    Args:
        program: Any program with a density.
        x: Data (N, *shape).
        *context: What the program is conditioned on, each of length N.
        guide: The proposal; `program.guide` if left out.
        particles: How many importance samples for each datum.
        seed: Seeds the draws and leaves the global generator as it was; None draws from the global
            generator.

    Raises:
        ValueError: If there is no guide or no density, particles is below 1, or program, guide and
            data do not fit together.

    Examples:
        >>> ppca = toy.PPCA(torch.ones(3, 1), torch.zeros(3), 1.0)
        >>> improbability(ppca, torch.tensor([[0.0, 0.0, 0.0], [5.0, -5.0, 5.0]]), seed=0).value
        tensor([ 3.4500, 37.8250], dtype=torch.float64)
    """
    if not hasattr(program, "model"):
        raise ValueError(
            f"expected a program with a density, got {type(program).__name__}, which has none; "
            "models.with_prior gives an autoencoder one"
        )
    found = log_evidence(program, guide, x, *context, particles=particles, seed=seed)
    return 0.0 - found


def code_distance(codes: Tensor, usual: Tensor, k: int = 5) -> Tensor:
    """(1/k) Σ ‖z − z′‖ over the k nearest codes z′ of usual data, (N,).

    Args:
        codes: Codes to be judged, (N, D).
        usual: Codes of data that nothing is odd about, such as training data, (M, D).
        k: How many neighbours.

    Raises:
        ValueError: If k is below 1 or above M, or the dimensions differ.

    Examples:
        >>> usual = torch.zeros(10, 2)
        >>> code_distance(torch.tensor([[3.0, 4.0]]), usual, k=5)
        tensor([5.], dtype=torch.float64)

    Reference:
        Angiulli and Pizzuti (2002), Fast outlier detection in high dimensional spaces.
    """
    return nearest(codes, usual, k).distances.mean(1)
