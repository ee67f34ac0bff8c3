"""Lossy compression: bits of the codes against the error of what they are decoded to."""

from __future__ import annotations

__all__ = ["RateDistortion", "at_rate", "codec_curve", "quantised_codes", "rate_distortion"]

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from pyro import poutine
from torch import Tensor

from ppl_gen import memory
from ppl_gen.arguments import expect_tensor
from ppl_gen.contexts import evaluating, guide_of, seeded
from ppl_gen.counts import expect_at_least, expect_positive
from ppl_gen.inference.compression.codecs import encoded, sheet
from ppl_gen.inference.compression.masses import Coder, whole_masses
from ppl_gen.inference.cuts import check_by_datum
from ppl_gen.inference.estimate import Estimate
from ppl_gen.program import log_density, propose
from ppl_gen.protocols import Guide, Program
from ppl_gen.sites import is_deterministic, stochastic_sites

_MOST_SYMBOLS = 2**16  # of a code's entry


class RateDistortion(NamedTuple):
    """What data cost, and what they lose.

    Attributes:
        rate: Bits per dimension, per datum (N,); of a file of all data one number, without error.
        distortion: Squared error per dimension, per datum (N,).
    """

    rate: Estimate
    distortion: Estimate

    def __repr__(self) -> str:
        return (
            f"{self.rate.mean():.4f} bits per dimension, squared error {self.distortion.mean():.6f}"
        )


def rate_distortion(
    program: Program,
    guide: Guide | None,
    x: Tensor,
    *context: Tensor,
    particles: int = 10,
    seed: int | None = None,
) -> RateDistortion:
    """R = KL(q(z | x) ‖ p(z))/(d log 2) and D = E_q ‖x − E[x | z]‖²/d, with d the dimension of x.

    R is the least number of bits by which a receiver who knows p(z) can draw from q(z | x)
    (relative entropy coding), not the length of a file: bits back does not reach it where the data
    are not sent too. Both are averages over draws of q.

    Args:
        program: Any program with a density; in evaluation mode.
        guide: q(z | x, c); `program.guide` if None.
        x: Data of shape (N, *shape).
        *context: What the program is conditioned on, each of length N.
        particles: K, draws of z per datum, at least 2.
        seed: Seeds the draws and leaves the global generator as it was; None draws from the global
            generator.

    Raises:
        ValueError: If there are fewer than two particles, no guide, or program, guide and data do
            not fit together.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2, hidden=[8])
        >>> found = rate_distortion(vae, vae.guide, torch.rand(5, 4).round(), seed=0)
        >>> found.rate.value.shape, found.distortion.value.shape
        (torch.Size([5]), torch.Size([5]))

    Reference:
        Alemi, Poole, Fischer, Dillon, Saurous and Murphy (2018), Fixing a broken ELBO; Harsha,
        Jain, McAllester and Radhakrishnan (2010), The communication complexity of correlation.
    """
    expect_at_least(2, particles=particles)
    guide = guide_of(program, guide)
    nesting, width, _ = check_by_datum(program, guide, x, *context)
    data = (x, *context)
    at_once = max(1, memory.pairs(width, x.device) // particles)
    rates = []
    errors = []
    with evaluating(program, guide), seeded(x.device, seed):
        for start in range(0, len(x), at_once):
            some = [t[start : start + at_once] for t in data]
            proposal = propose(guide, particles, nesting, *some)
            prior = log_density(program.model, proposal.latents, *some).prior
            rates.append(proposal.log_prob - prior.reshape(proposal.log_prob.shape))
            errors.append(_squared_errors(program, proposal.latents, some))
    dimensions = math.prod(x.shape[1:])
    rate = torch.cat(rates, 1) / (dimensions * math.log(2))
    return RateDistortion(_averaged(rate), _averaged(torch.cat(errors, 1)))


def quantised_codes(autoencoder: Any, train: Tensor, x: Tensor, *, step: float) -> RateDistortion:
    """Codes rounded to multiples of step times their deviation, as bits, and decoded again.

    The whole numbers round(cⱼ/(step σⱼ)) are put on a stack under their frequencies among the
    training data, entry by entry; the rate is the length of that, R = bits/(N d).

    Args:
        autoencoder: A module with `encoder` and `decoder`, such as `models.Autoencoder`.
        train: Data that the frequencies are counted of, (M, *shape).
        x: Data that are compressed, (N, *shape).
        step: Distance of two values of a code, in units of its standard deviation over `train`.

    Returns:
        The rate of the file, and the error of each datum.

    Raises:
        ValueError: If the step is not positive, or so small that an entry has more than 2¹⁶ values,
            or something is no tensor or no autoencoder.

    Examples:
        >>> x = torch.rand(200, 4)
        >>> found = quantised_codes(models.pca(x, code_dim=2), x[:100], x[100:], step=0.5)
        >>> found.distortion.value.shape
        torch.Size([100])
    """
    expect_positive(step=step)
    for name, values in (("train", train), ("x", x)):
        expect_tensor(name, values)
    for part in ("encoder", "decoder"):
        if not callable(getattr(autoencoder, part, None)):
            raise ValueError(
                f"expected an autoencoder with an {part}, got {type(autoencoder).__name__}; take "
                "one of ppl_gen.models"
            )
    with evaluating(autoencoder):
        codes = autoencoder.encoder(train)
        unit = step * codes.std(0)
        unit = torch.where(unit > 0, unit, 1.0)
        known = (codes / unit).round().long()
        least = known.amin(0)
        size = int((known.amax(0) - least).max()) + 1
        if size > _MOST_SYMBOLS:
            raise ValueError(
                f"expected a step of which a code has at most {_MOST_SYMBOLS} values, got {size} "
                "values; take a larger step"
            )
        found = (autoencoder.encoder(x) / unit).round().long()
        symbols = (found - least).clamp(0, size - 1)
        decoded = autoencoder.decoder((symbols + least).to(unit.dtype) * unit)
    squares = (decoded - x).square().flatten(1).double()
    bits = _length(symbols, known - least, size)
    rate = torch.tensor(bits / x.numel(), dtype=torch.float64)
    return RateDistortion(_exact(rate), _exact(squares.mean(1)))


def codec_curve(x: Tensor, kind: str, settings: Sequence[float]) -> list[RateDistortion]:
    """Images on one sheet by JPEG or JPEG-2000: its bits per dimension, and each image's error.

    Args:
        x: Images (N, C, H, W) in [0, 1], with one channel or three; they become bytes.
        kind: "JPEG" or "JPEG2000".
        settings: Qualities from 1 to 95 of JPEG; the bits per dimension that JPEG-2000 is to take.

    Raises:
        ValueError: If x are no such images, or the codec is another.
    """
    expect_tensor("x", x)
    if x.dim() != 4 or x.shape[1] not in (1, 3):
        raise ValueError(
            f"expected images (N, C, H, W) with one channel or three, got shape {tuple(x.shape)}"
        )
    if kind not in _OPTIONS:
        raise ValueError(f"expected a codec among {', '.join(_OPTIONS)}, got {kind!r}")
    stored = x.clamp(0, 1).mul(255).round().byte().cpu().numpy()
    of_all = sheet(stored)
    found = []
    for setting in settings:
        size, back = encoded(of_all, kind, **_OPTIONS[kind](setting))
        decoded = torch.as_tensor(_cut(back, stored.shape)).double() / 255
        error = (decoded - x.double().cpu()).square().flatten(1).mean(1)
        rate = torch.tensor(8 * size / x.numel(), dtype=torch.float64)
        found.append(RateDistortion(_exact(rate), _exact(error)))
    return found


def at_rate(rate: float, rates: Sequence[float], distortions: Sequence[float]) -> float | None:
    """The distortion at a rate, log D being linear between points; None beyond them.

    Args:
        rate: In the unit of `rates`.
        rates: Of the points, in any order.
        distortions: Theirs, positive.
    """
    order = np.argsort(rates)
    ascending = np.asarray(rates, dtype=float)[order]
    if not ascending[0] <= rate <= ascending[-1]:
        return None
    logs = np.log(np.asarray(distortions, dtype=float)[order])
    return float(np.exp(np.interp(rate, ascending, logs)))


def _jpeg(quality: float) -> dict[str, Any]:
    return {"quality": int(quality), "optimize": True}


def _jpeg_2000(bits: float) -> dict[str, Any]:
    return {"quality_mode": "rates", "quality_layers": [8 / bits], "irreversible": True}


# What Pillow is told, of a setting.
_OPTIONS: dict[str, Callable[[float], dict[str, Any]]] = {"JPEG": _jpeg, "JPEG2000": _jpeg_2000}


def _squared_errors(program: Program, latents: dict[str, Tensor], data: Sequence[Tensor]) -> Tensor:
    """‖x − E[x | z]‖²/d of latents (K, n, *event), (K, n)."""
    x = data[0]
    model = poutine.condition(program.model, data=latents)
    means = []
    for name, site in stochastic_sites(poutine.trace(model).get_trace(*data)).items():
        if name not in latents and not is_deterministic(site):
            means.append(site["fn"].mean)
    (mean,) = means
    residuals = (mean - x).reshape(-1, *x.shape)
    return residuals.square().flatten(2).mean(2)


def _averaged(values: Tensor) -> Estimate:
    """The average over draws (K, n), with its error."""
    values = values.double()
    return Estimate(values.mean(0), values.std(0) / len(values) ** 0.5)


def _exact(values: Tensor) -> Estimate:
    return Estimate(values, torch.zeros_like(values))


def _length(symbols: Tensor, known: Tensor, size: int) -> int:
    """The bits of symbols (N, k), each entry under its frequencies in known ones (M, k)."""
    coder = Coder(np.zeros(0, dtype=np.uint32), sealed=True)
    for entry in range(symbols.shape[1]):
        counts = torch.bincount(known[:, entry], minlength=size) + 0.5
        masses = whole_masses(counts.double()[None])
        own = symbols[:, entry].cpu().numpy()
        coder.push(own, np.broadcast_to(masses, (len(own), size)).copy())
    return coder.bits


def _cut(made: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The images (N, C, H, W) of a sheet."""
    count, channels, height, width = shape
    rows, columns = made.shape[1] // height, made.shape[2] // width
    grid = made.reshape(channels, rows, height, columns, width)
    return grid.transpose(1, 3, 0, 2, 4).reshape(-1, channels, height, width)[:count]
