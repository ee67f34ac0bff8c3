"""How long a step takes under each family of guides, against the same written by hand in PyTorch;
and what a KL in closed form saves.

`OMP_NUM_THREADS=1 python tests/benchmarks/guide_speed.py`. The contestants take turns, pass by
pass, over the same random batches; medians of the ratios to plain PyTorch are printed. Then the
variance of the encoder's gradient is compared between AnalyticELBO and Trace_ELBO, at the start and
after some epochs on digits, and so is the time of a step.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import pyro
import torch
import zuko
from pyro.infer import Trace_ELBO
from torch import Tensor, nn
from torch.nn import functional as F

from ppl_gen import data, guides
from ppl_gen.flows import inverse_autoregressive_flow
from ppl_gen.inference import AnalyticELBO, iterate, svi_step
from ppl_gen.models import VAE, vae
from ppl_gen.nn import mlp

# From outputs (N, ·) to z (N, D) and log q(z | x), (N,).
Sampled = Callable[[Tensor], tuple[Tensor, Tensor]]
HALF_LOG = 0.5 * math.log(2 * math.pi)


class Size(NamedTuple):
    """A VAE and its batches."""

    pixels: int
    hidden: tuple[int, ...]
    latent: int
    batch: int
    steps: int


def log_normal(noise: Tensor) -> Tensor:
    """log N(ε; 0, I)."""
    return -(0.5 * noise.square() + HALF_LOG).sum(-1)


def diagonal(size: Size) -> tuple[int, Sampled, list[nn.Module]]:
    def sampled(outputs: Tensor) -> tuple[Tensor, Tensor]:
        loc, log_scale = outputs.chunk(2, -1)
        noise = torch.randn_like(loc)
        return loc + log_scale.exp() * noise, log_normal(noise) - log_scale.sum(-1)

    return 2 * size.latent, sampled, []


def full_covariance(size: Size) -> tuple[int, Sampled, list[nn.Module]]:
    dim = size.latent
    row, column = torch.tril_indices(dim, dim, -1)

    def sampled(outputs: Tensor) -> tuple[Tensor, Tensor]:
        loc, log_scale, below = outputs.split([dim, dim, dim * (dim - 1) // 2], -1)
        factor = torch.zeros(len(outputs), dim, dim)
        factor[:, row, column] = below
        factor = factor + torch.diag_embed(log_scale.exp())
        q = torch.distributions.MultivariateNormal(loc, scale_tril=factor, validate_args=False)
        z = q.rsample()
        return z, q.log_prob(z)

    return dim * (dim + 3) // 2, sampled, []


def low_rank(size: Size) -> tuple[int, Sampled, list[nn.Module]]:
    dim = size.latent

    def sampled(outputs: Tensor) -> tuple[Tensor, Tensor]:
        loc, log_scale, factor = outputs.split([dim, dim, 2 * dim], -1)
        q = torch.distributions.LowRankMultivariateNormal(
            loc, factor.unflatten(-1, (dim, 2)), (2 * log_scale).exp(), validate_args=False
        )
        z = q.rsample()
        return z, q.log_prob(z)

    return 4 * dim, sampled, []


def flow(size: Size) -> tuple[int, Sampled, list[nn.Module]]:
    dim = size.latent
    layers = inverse_autoregressive_flow(dim, 32)

    def sampled(outputs: Tensor) -> tuple[Tensor, Tensor]:
        loc, log_scale, context = outputs.split([dim, dim, 32], -1)
        u, log_u = layers(context).rsample_and_log_prob()
        return loc + log_scale.exp() * u, log_u - log_scale.sum(-1)

    return 2 * dim + 32, sampled, [layers]


def mixture(size: Size) -> tuple[int, Sampled, list[nn.Module]]:
    """By Pyro's mixture of diagonal normals, whose draws have gradients of another estimator."""
    dim = size.latent

    def sampled(outputs: Tensor) -> tuple[Tensor, Tensor]:
        logits, loc, log_scale = outputs.split([3, 3 * dim, 3 * dim], -1)
        q = pyro.distributions.MixtureOfDiagNormals(
            loc.unflatten(-1, (3, dim)), log_scale.unflatten(-1, (3, dim)).exp(), logits
        )
        z = q.rsample()
        return z, q.log_prob(z)

    return 3 * (2 * dim + 1), sampled, []


HAND_WRITTEN = {
    "diagonal": diagonal,
    "full-covariance": full_covariance,
    "low-rank": low_rank,
    "flow": flow,
    "mixture": mixture,
}
FAMILIES = {
    "diagonal": guides.diagonal,
    "full-covariance": guides.full_covariance,
    "low-rank": guides.low_rank,
    "flow": guides.flow,
    "mixture": guides.mixture,
}


def by_hand(name: str, size: Size, seen: list[Tensor]) -> Callable[[], object]:
    """A VAE as one would write it in plain PyTorch: one draw, its density, one fused Adam."""
    outputs, sampled, parts = HAND_WRITTEN[name](size)
    encoder = mlp([size.pixels, *size.hidden, outputs], nn.Tanh)
    decoder = mlp([size.latent, *reversed(size.hidden), size.pixels], nn.Tanh)
    parameters = nn.ModuleList([encoder, decoder, *parts]).parameters()
    optimizer = torch.optim.Adam(parameters, 1e-3, fused=True)

    def one_pass() -> None:
        for x in seen:
            z, log_q = sampled(encoder(x))
            fit = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
            loss = (fit + (log_q - log_normal(z)).sum()) / len(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return one_pass


def semi_amortised_by_hand(size: Size, seen: list[Tensor]) -> Callable[[], object]:
    """Four steps of natural gradient at two pairs of draws, the gradient going through them."""
    encoder = mlp([size.pixels, *size.hidden, 2 * size.latent], nn.Tanh)
    decoder = mlp([size.latent, *reversed(size.hidden), size.pixels], nn.Tanh)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, 1e-3, fused=True)
    half = torch.randn(2, 1, size.latent)
    noise = torch.cat([half, -half])

    def bound(outputs: Tensor, x: Tensor, noise: Tensor) -> Tensor:
        loc, log_scale = outputs.chunk(2, -1)
        scale = log_scale.exp()
        logits = decoder(loc + scale * noise)
        fit = -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none")
        divergence = 0.5 * (loc.square() + scale.square() - 1 - 2 * log_scale).sum(-1)
        return (fit.sum(-1).mean(0) - divergence).sum()

    def one_pass() -> None:
        for x in seen:
            outputs = encoder(x)
            for _ in range(4):
                (slope,) = torch.autograd.grad(bound(outputs, x, noise), outputs, create_graph=True)
                scale = outputs.chunk(2, -1)[1].exp()
                of_loc, of_log_scale = slope.chunk(2, -1)
                of_loc = scale * (0.5 * scale * of_loc).clamp(-1, 1)
                of_log_scale = (0.25 * of_log_scale).clamp(-1, 1)
                outputs = outputs + torch.cat([of_loc, of_log_scale], -1)
            loss = -bound(outputs, x, torch.randn(1, len(x), size.latent)) / len(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return one_pass


def library(program: VAE, seen: list[Tensor], engine: str) -> Callable[[], object]:
    """The library's step."""
    optimizer = torch.optim.Adam(program.parameters(), 1e-3, fused=True)
    step = svi_step(program, optimizer, engine=engine)
    return lambda: [step(x) for x in seen]


def built(name: str, size: Size) -> VAE:
    """The library's VAE with a guide."""
    options = {"hidden": size.hidden}
    if name != "semi-amortised":
        return vae((size.pixels,), size.latent, guide=FAMILIES[name], **options)
    program = vae((size.pixels,), size.latent, **options)
    slots = (program.encoder, program.prior, program.decoder, program.likelihood)
    program.encoder = guides.SemiAmortised(*slots)
    return program


def seconds(one_pass: Callable[[], object]) -> float:
    start = time.perf_counter()
    one_pass()
    return time.perf_counter() - start


def compare_steps(name: str, size: Size, engines: list[str], rounds: int) -> None:
    """Prints a line for each contestant of one guide."""
    torch.manual_seed(0)
    seen = list(torch.rand(size.batch * size.steps, size.pixels).round().split(size.batch))
    if name == "semi-amortised":
        passes = {"plain PyTorch": semi_amortised_by_hand(size, seen)}
    else:
        passes = {"plain PyTorch": by_hand(name, size, seen)}
    for engine in engines:
        passes[engine] = library(built(name, size), seen, engine)
    times: dict[str, list[float]] = {who: [] for who in passes}
    for one_pass in passes.values():
        one_pass()
    for _ in range(rounds):
        for who, one_pass in passes.items():
            times[who].append(seconds(one_pass))
    for who, taken in times.items():
        pairs = zip(taken, times["plain PyTorch"], strict=True)
        ratio = statistics.median(ours / plain for ours, plain in pairs)
        each = 1e6 * statistics.median(taken) / size.steps
        print(f"{name:16}{who:16}{each:10.0f} µs a step{ratio:8.2f} × plain PyTorch", flush=True)


def variance_of_gradient(program: VAE, objective: Trace_ELBO, x: Tensor, repeats: int) -> float:
    """The variance of the encoder's gradient, summed over its entries."""
    parameters = list(program.encoder.parameters())
    draws = []
    for _ in range(repeats):
        loss = objective.differentiable_loss(program.model, program.guide, x) / len(x)
        found = torch.autograd.grad(loss, parameters)
        draws.append(torch.cat([gradient.flatten() for gradient in found]))
    return float(torch.stack(draws).var(0).sum())


def measure_closed_form(epochs: int, repeats: int) -> None:
    """Prints what AnalyticELBO saves on digits: variance, before and after a fit."""
    images = data.load("digits", binarize="threshold")
    x = images.train.x[:100]
    for name in ("diagonal", "full-covariance"):
        torch.manual_seed(0)
        program = vae(images.shape, 10, guide=FAMILIES[name])
        step = svi_step(program, torch.optim.Adam(program.parameters(), 1e-3))
        for passed in (0, epochs):
            if passed:
                list(iterate(step, images.train.batches(100), passed))
            drawn = variance_of_gradient(program, Trace_ELBO(), x, repeats)
            closed = variance_of_gradient(program, AnalyticELBO(), x, repeats)
            print(
                f"{name}, {passed} epochs: variance of the encoder's gradient {drawn:.3g} by "
                f"draws, {closed:.3g} with the KL in closed form, {drawn / closed:.2f} times less",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*FAMILIES, "semi-amortised"]
    parser.add_argument("--guides", nargs="*", choices=names, default=names)
    parser.add_argument("--engines", nargs="+", default=["fx", "inductor"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=40, help="in a pass")
    parser.add_argument("--pixels", type=int, default=784)
    parser.add_argument("--hidden", type=int, nargs="+", default=[200, 200])
    parser.add_argument("--latent", type=int, default=20)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=50, help="before variances; 0 for none")
    parser.add_argument("--repeats", type=int, default=300, help="gradients for a variance")
    asked = parser.parse_args()
    size = Size(asked.pixels, tuple(asked.hidden), asked.latent, asked.batch, asked.steps)
    print(f"torch {torch.__version__}, zuko {zuko.__version__}, {size}", flush=True)
    for name in asked.guides:
        compare_steps(name, size, asked.engines, asked.rounds)
    if asked.epochs:
        measure_closed_form(asked.epochs, asked.repeats)


if __name__ == "__main__":
    main()
