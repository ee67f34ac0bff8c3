"""Importance weights and annealing under a decoder of 50-200-200-784."""

from __future__ import annotations

__all__ = ["annealing", "importance", "importance_of"]

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from ppl_gen.inference import ais, log_evidence
from ppl_gen.inference.engine.replay import Engine, Replay
from ppl_gen.inference.evidence.temperatures import sigmoid
from ppl_gen.models import VAE, vae
from speed.contest import Contest, Job
from speed.scale import Scale

LATENTS, PIXELS = 50, 784
AT_ONCE = 2000  # particles of a datum that plain PyTorch is given at once
LEAPFROGS = 5
PILOT = 50  # transitions that `ais` makes before, to learn its steps


def _program() -> VAE:
    return vae((PIXELS,), LATENTS, hidden=(200, 200))


def _images(count: int) -> Tensor:
    return torch.rand(count, PIXELS).round()


@torch.no_grad()
def weights_by_hand(program: VAE, x: Tensor, particles: int) -> Tensor:
    """log (1/K) Σₖ wₖ datum by datum, as one would write it in PyTorch."""
    encode, decode = program.encoder.net, program.decoder
    found = []
    for datum in x:
        loc, log_scale = encode(datum).chunk(2, -1)
        parts = []
        for begin in range(0, particles, AT_ONCE):
            count = min(AT_ONCE, particles - begin)
            noise = torch.randn(count, LATENTS)
            z = loc + log_scale.exp() * noise
            logits = decode(z)
            error = F.binary_cross_entropy_with_logits(
                logits, datum.expand_as(logits), reduction="none"
            )
            ratio = 0.5 * (noise.square() - z.square()).sum(-1) + log_scale.sum()
            parts.append(ratio - error.sum(-1))
        found.append(torch.cat(parts).logsumexp(0) - math.log(particles))
    return torch.stack(found)


def weights(x: Tensor, particles: int, engine: Engine) -> Job:
    """`log_evidence`."""
    program = _program()
    return _job_of_pairs(
        x, particles, lambda: log_evidence(program, None, x, particles=particles, engine=engine)
    )


def _weights_by_hand(x: Tensor, particles: int) -> Job:
    program = _program()
    return _job_of_pairs(x, particles, lambda: weights_by_hand(program, x, particles))


def _job_of_pairs(x: Tensor, particles: int, run: Callable[[], object]) -> Job:
    pairs = len(x) * particles
    return Job(run=run, units=lambda _: pairs)


def importance(scale: Scale, images: int = 1000, particles: int = 5000) -> Contest:
    """log p̂(x) by importance weights, counted by its pairs of a particle and an image."""
    if scale.name != "full":
        images, particles = scale.count(images // 10, least=2), scale.count(particles, least=100)
    x = _images(images)
    ways: dict[str, Callable[[], Job]] = {}
    if scale.compiles:
        ways["ppl-gen"] = partial(weights, x, particles, "inductor")
    ways |= {
        "ppl-gen, fx": partial(weights, x, particles, "fx"),
        "ppl-gen, eager": partial(weights, x, particles, "eager"),
        "PyTorch by hand": partial(_weights_by_hand, x, particles),
    }
    return Contest(
        what=f"50-200-200-784, {images} images, {particles} particles",
        unit="pair",
        ways=ways,
        rounds=min(scale.rounds, 3),
        counted="ppl-gen, eager",
    )


def importance_of(scale: Scale, particles: int) -> Contest:
    """The same of ten images, without a compiler, counted by calls."""
    x = _images(10)
    ways = {
        "ppl-gen, fx": partial(_by_call, weights, x, particles, "fx"),
        "PyTorch by hand": partial(_by_call, _weights_by_hand, x, particles),
    }
    return Contest(
        what=f"{particles} particles", unit="call", ways=ways, rounds=min(scale.rounds, 3)
    )


def _by_call(way: Callable[..., Job], *asked: object) -> Job:
    """What a way is asked for, its time that of a call."""
    return Job(run=way(*asked).run)


def _energy(program: VAE, flat: Tensor, z: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
    """−log f_β, its gradient and log p(x | z), of chains (C, N, D)."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        logits = program.decoder(z)
        likelihood = -F.binary_cross_entropy_with_logits(
            logits, flat.expand_as(logits), reduction="none"
        ).sum(-1)
        total = -(-0.5 * (z.square() + math.log(2 * math.pi)).sum(-1) + beta * likelihood)
        (gradient,) = torch.autograd.grad(total.sum(), z)
    return total.detach(), gradient, likelihood.detach()


def annealed_by_hand(program: VAE, x: Tensor, chains: int, temperatures: int) -> Tensor:
    """AIS of a Bernoulli VAE from its prior, as one would write it down: fixed step sizes."""
    betas = sigmoid(temperatures)
    z = torch.randn(chains, len(x), LATENTS)
    log_weight = torch.zeros(chains, len(x), dtype=torch.float64)
    likelihood = _energy(program, x, z, 0.0)[2]
    for t in range(-PILOT, temperatures):
        beta = float(betas[max(t, 0) + 1])
        if t >= 0:
            log_weight += (beta - float(betas[t])) * likelihood
        p = torch.randn_like(z)
        before, gradient, likelihood = _energy(program, x, z, beta)
        new, q = z, p
        for _ in range(LEAPFROGS):
            q = q - 0.025 * gradient
            new = new + 0.05 * q
            after, gradient, fresh = _energy(program, x, new, beta)
            q = q - 0.025 * gradient
        change = before - after + 0.5 * (p.square().sum(-1) - q.square().sum(-1))
        accepted = torch.rand_like(change).log() < change
        z = torch.where(accepted[..., None], new, z)
        likelihood = torch.where(accepted, fresh, likelihood)
    return log_weight


def _gradients_alone(x: Tensor, chains: int, temperatures: int, engine: Engine) -> Job:
    """As many gradients as the leapfrog steps take, and nothing else: the floor."""
    program = _program().requires_grad_(False)
    steps = (temperatures + PILOT) * LEAPFROGS
    replay = Replay(engine, steps, watch=False)
    z = torch.randn(chains, len(x), LATENTS)

    def gradient(z: Tensor) -> tuple[Tensor, ...]:
        return _energy(program, x, z, 0.5)

    def run() -> None:
        for _ in range(steps):
            replay(gradient, z)

    return Job(run=run, units=lambda _: steps)


def _annealed(x: Tensor, chains: int, temperatures: int, engine: Engine) -> Job:
    """`ais`."""
    program = _program()

    def run() -> None:
        ais(
            program,
            x,
            chains=chains,
            temperatures=temperatures,
            leapfrogs=LEAPFROGS,
            chunk=len(x),
            engine=engine,
        )

    return Job(run=run, units=lambda _: (temperatures + PILOT) * LEAPFROGS)


def _annealed_by_hand(x: Tensor, chains: int, temperatures: int) -> Job:
    program = _program().requires_grad_(False)
    return Job(
        run=lambda: annealed_by_hand(program, x, chains, temperatures),
        units=lambda _: (temperatures + PILOT) * LEAPFROGS,
    )


def annealing(scale: Scale, images: int = 100, chains: int = 16) -> Contest:
    """AIS, counted by its leapfrog steps of all chains."""
    images = scale.count(images, least=10)
    temperatures = scale.count(200, least=5)
    x = _images(images)
    asked = (x, chains, temperatures)
    ways: dict[str, Callable[[], Job]] = {}
    if scale.compiles:
        ways["ppl-gen"] = partial(_annealed, *asked, "inductor")
        ways["its gradients alone"] = partial(_gradients_alone, *asked, "inductor")
    ways |= {
        "ppl-gen, fx": partial(_annealed, *asked, "fx"),
        "ppl-gen, eager": partial(_annealed, *asked, "eager"),
        "its gradients alone, fx": partial(_gradients_alone, *asked, "fx"),
        "PyTorch by hand": partial(_annealed_by_hand, *asked),
    }
    return Contest(
        what=f"50-200-200-784, {images} images, {chains} chains",
        unit="leapfrog step",
        ways=ways,
        rounds=min(scale.rounds, 5),
        counted="PyTorch by hand",
    )
