"""How long a training step takes under each prior against the same written by hand in PyTorch.

`OMP_NUM_THREADS=1 python tests/benchmarks/priors_speed.py`; `--rows mixture vamp` for some,
`--engines fx` without the minutes of compilation. Contestants take turns, pass by pass, over the
same batches; medians of the ratios to eager PyTorch are printed, of processor time, and what was
warned of where an engine could not be had. Rows without a plain form of their own (horseshoe,
uniform, hypersphere) are timed against the standard normal: what they cost beyond it.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ppl_gen import priors
from ppl_gen.flows import coupling_flow
from ppl_gen.guides import bounded, on_sphere
from ppl_gen.inference import svi_step
from ppl_gen.models import vae

PIXELS, LATENT, BATCH, STEPS = 784, 40, 100, 20
COMPONENTS, PSEUDO_INPUTS = 10, 500
LogPrior = Callable[[Tensor, nn.Module], Tensor]


def _log_normal(z: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
    """log N(z; μ, diag exp(η)²), summed over the last axis."""
    standardised = (z - loc) * torch.exp(-log_scale)
    each = -0.5 * standardised.square() - log_scale - 0.5 * math.log(2 * math.pi)
    return each.sum(-1)


class Standard(nn.Module):
    def forward(self, z: Tensor, encoder: nn.Module) -> Tensor:
        return -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)


class Mixture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(0.5 * torch.randn(COMPONENTS, LATENT))
        self.log_scale = nn.Parameter(torch.zeros(COMPONENTS, LATENT))
        self.logits = nn.Parameter(torch.zeros(COMPONENTS))

    def forward(self, z: Tensor, encoder: nn.Module) -> Tensor:
        each = _log_normal(z[:, None], self.loc, self.log_scale)
        return torch.logsumexp(each + self.logits.log_softmax(-1), -1)


class Vamp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.rand(PSEUDO_INPUTS, PIXELS))

    def forward(self, z: Tensor, encoder: nn.Module) -> Tensor:
        loc, log_scale = encoder(self.u.clamp(0, 1)).chunk(2, -1)
        each = _log_normal(z[:, None], loc, log_scale)
        return torch.logsumexp(each, -1) - math.log(PSEUDO_INPUTS)


class Flow(nn.Module):
    """The same flow, called as zuko's own users would."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = coupling_flow(LATENT)

    def forward(self, z: Tensor, encoder: nn.Module) -> Tensor:
        return self.flow().log_prob(z)


class Slab(nn.Module):
    def forward(self, z: Tensor, encoder: nn.Module) -> Tensor:
        wide = -0.5 * z.square() + math.log(0.2)
        narrow = -0.5 * (z / 0.05).square() + math.log(0.8 / 0.05)
        return (torch.logaddexp(wide, narrow) - 0.5 * math.log(2 * math.pi)).sum(-1)


# By name: the prior of the library, its guide's family, and what is written by hand where there is
# a plain form of it. The others are timed against the standard normal.
ROWS: dict[str, tuple[Callable[[Any], Any], Any, Callable[[], nn.Module]]] = {
    "standard-normal": (lambda p: priors.StandardNormal(LATENT), None, Standard),
    "mixture": (lambda p: priors.MixtureOfGaussians(LATENT, COMPONENTS), None, Mixture),
    "vamp": (
        lambda p: priors.VampPrior(p.encoder, torch.rand(PSEUDO_INPUTS, PIXELS)),
        None,
        Vamp,
    ),
    "flow": (lambda p: priors.FlowPrior(coupling_flow(LATENT)), None, Flow),
    "spike-and-slab": (lambda p: priors.SpikeAndSlab(LATENT), None, Slab),
    "horseshoe": (lambda p: priors.Horseshoe(LATENT), None, Standard),
    "uniform": (lambda p: priors.Uniform(LATENT), bounded, Standard),
    "hypersphere": (lambda p: priors.Hypersphere(LATENT), on_sphere, Standard),
}


def hand_written(log_prior: nn.Module, batches: list[Tensor]) -> Callable[[], None]:
    """A VAE as one would write it in plain PyTorch, with one fused Adam."""

    def net(*sizes: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(sizes):
            layers += [nn.Linear(a, b), nn.Tanh()]
        return nn.Sequential(*layers[:-1])

    encoder = net(PIXELS, 200, 200, 2 * LATENT)
    decoder = net(LATENT, 200, 200, PIXELS)
    held = nn.ModuleList([encoder, decoder, log_prior])
    optimizer = torch.optim.Adam(held.parameters(), 1e-3, fused=True)

    def one_pass() -> None:
        for x in batches:
            loc, log_scale = encoder(x).chunk(2, -1)
            z = loc + log_scale.exp() * torch.randn_like(loc)
            logits = decoder(z)
            log_likelihood = -F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
            rate = _log_normal(z, loc, log_scale) - log_prior(z, encoder)
            loss = (rate.sum() - log_likelihood) / len(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return one_pass


def library(row: str, engine: Any, batches: list[Tensor]) -> Callable[[], None]:
    """The library's VAE with this prior, and its step."""
    make, family, _ = ROWS[row]
    options = {}
    if family is not None:
        options["guide"] = family
    program = vae((PIXELS,), LATENT, **options)
    program.prior = make(program)
    optimizer = torch.optim.Adam(program.parameters(), 1e-3, fused=True)
    step = svi_step(program, optimizer, engine=engine)

    def one_pass() -> None:
        for x in batches:
            step(x)

    return one_pass


def main() -> None:
    """Times the rows asked for, one line for each engine."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--engines", nargs="+", default=["eager", "fx", "inductor"])
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    torch.manual_seed(0)
    batches = list(torch.rand(STEPS, BATCH, PIXELS).round())
    for row in asked.rows:
        passes = {"plain PyTorch": hand_written(ROWS[row][2](), batches)}
        for engine in asked.engines:
            passes[engine] = library(row, engine, batches)
        said = {}
        for who, one_pass in passes.items():
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                one_pass()
            fallen = [str(w.message) for w in caught if "engine" in str(w.message)]
            said[who] = "; ".join(fallen)[:100]
        times: dict[str, list[float]] = {who: [] for who in passes}
        for _ in range(asked.rounds):
            for who, one_pass in passes.items():
                start = time.process_time()
                one_pass()
                times[who].append(time.process_time() - start)
        for who, taken in times.items():
            pairs = zip(taken, times["plain PyTorch"], strict=True)
            ratio = statistics.median([a / b for a, b in pairs])
            step = 1e6 * statistics.median(taken) / STEPS
            print(f"{row:16} {who:14} {step:8.0f} µs a step  {ratio:5.2f} {said[who]}", flush=True)


if __name__ == "__main__":
    main()
