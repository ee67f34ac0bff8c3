"""Priors of one VAE at equal budget: test evidence by importance sampling, ELBO, and what is used.

`OMP_NUM_THREADS=1 python tests/benchmarks/priors_table.py --data mnist --epochs 20`, or
`--data digits --epochs 50 --latent-dim 10 --hidden 100 --pseudo-inputs 100`, which takes minutes.
784-200-200-40 tanh, mirrored, dynamic binarisation, batches of 100, Adam at 1e-3, one particle. All
rows share the first half of the epochs, under the standard normal; then each puts its prior into
the slot, fits the prior's own parameters for an epoch while the rest stands still, and trains
everything, as `--prior-after` of the command does. A prior that is learned from the first step on
follows the posteriors as they shrink to it, and stays there: on MNIST after 20 epochs, β annealed
over five of them, a VampPrior of 100 pseudo-inputs had no active latent (−199.9 nats) and a flow
−121.0, to −96.5 of the standard normal.
All numbers are nats per test datum, with Monte Carlo errors; the gain over the standard normal is
that of the same data, so that its error over data is printed as well. Expected of the field: a
VampPrior or a flow gains one to three nats on MNIST (Tomczak and Welling, 2018, table 1: 84.45 →
82.43 after some hundred epochs). KL(q(z) ‖ p(z)), the mismatch of aggregate posterior and prior, is
the most that any prior can gain at this decoder and guide; active latents tell whether a prior
collapsed.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ppl_gen import data
from ppl_gen.flows import coupling_flow
from ppl_gen.inference import Collapse, Estimate, collapse, elbo, log_evidence, svi_step
from ppl_gen.models import VAE, vae, with_layer_above
from ppl_gen.priors import (
    FlowPrior,
    MixtureOfGaussians,
    VampPrior,
    pseudo_inputs,
)


def _vamp(program: VAE, digits: data.Dataset, asked: Any) -> nn.Module:
    u = pseudo_inputs(digits.train.x, asked.pseudo_inputs, noise=asked.noise, seed=0)
    program.prior = VampPrior(program.encoder, u)
    return program


def _mixture(program: VAE, digits: data.Dataset, asked: Any) -> nn.Module:
    program.prior = MixtureOfGaussians(asked.latent_dim, asked.components)
    return program


def _flow(program: VAE, digits: data.Dataset, asked: Any) -> nn.Module:
    program.prior = FlowPrior(coupling_flow(asked.latent_dim, transforms=asked.transforms))
    return program


def _standard_normal(program: VAE, digits: data.Dataset, asked: Any) -> nn.Module:
    return program


def _hierarchical(program: VAE, digits: data.Dataset, asked: Any) -> nn.Module:
    return with_layer_above(program, asked.latent_dim, hidden=asked.above)


# Each puts its prior into a program's slot, or makes a program with it.
ROWS: dict[str, Callable[[VAE, data.Dataset, Any], nn.Module]] = {
    "standard-normal": _standard_normal,
    "mixture": _mixture,
    "vamp": _vamp,
    "flow": _flow,
    "hierarchical": _hierarchical,
}


def ascend(
    program: nn.Module, parameters: Iterable[Tensor], digits: data.Dataset, epochs: int, asked: Any
) -> None:
    """Ascends the ELBO in some of the parameters for some epochs."""
    optimizer = torch.optim.Adam(parameters, 1e-3, fused=True)
    batches = digits.train.batches(asked.batch_size)
    step = svi_step(program, optimizer, steps=epochs * len(batches), engine=asked.engine)
    for _ in range(epochs):
        for batch in batches:
            step(*batch)


def begun(digits: data.Dataset, asked: Any) -> VAE:
    """The VAE that all rows begin with: half of the epochs under the standard normal."""
    torch.manual_seed(asked.seed)
    program = vae(digits.shape, asked.latent_dim, hidden=asked.hidden)
    ascend(program, program.parameters(), digits, asked.epochs // 2, asked)
    return program


def trained(row: str, start: VAE, digits: data.Dataset, asked: Any) -> nn.Module:
    """Gives a program its prior, fits that to the codes as they are, then trains everything."""
    torch.manual_seed(asked.seed)
    left = asked.epochs - asked.epochs // 2
    known = set(start.parameters())
    program = ROWS[row](start, digits, asked)
    own = [parameter for parameter in program.parameters() if parameter not in known]
    if own:
        left = left - 1
        ascend(program, own, digits, 1, asked)
    ascend(program, program.parameters(), digits, left, asked)
    return program


def layer_by_layer(used: Collapse) -> list[str]:
    """Of each layer of latents, how many are active and the nats of KL of q(z | x)."""
    shown = []
    for layer in used.layers:
        active = used.active[layer.latents]
        shown.append(
            f"{layer.name} {int(active.sum())} of {len(active)} active, KL {layer.rate.mean()}"
        )
    return shown


def gain(found: Estimate, base: Estimate | None) -> str:
    """What a prior gains over the standard normal, with both of its errors."""
    if base is None:
        return ""
    difference = found.value - base.value
    monte_carlo = (found.standard_error.square() + base.standard_error.square()).mean()
    over_data = float(difference.std()) / len(difference) ** 0.5
    carlo = float(monte_carlo) ** 0.5 / len(difference) ** 0.5
    return f"{float(difference.mean()):+.3f} ± {carlo:.3f} (± {over_data:.3f} over data)"


def main() -> None:
    """Trains and scores the rows asked for, one line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mnist", help="digits or mnist")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--limit", type=int, default=1000, help="score the first so many test data")
    parser.add_argument("--particles", type=int, default=5000, help="importance samples per datum")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--latent-dim", type=int, default=40)
    parser.add_argument("--hidden", type=int, nargs="+", default=[200, 200])
    parser.add_argument("--above", type=int, nargs="+", default=[200], help="widths from z1 to z2")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--pseudo-inputs", type=int, default=500)
    parser.add_argument(
        "--noise", type=float, default=0.3, help="sd about the mean image, at first"
    )
    parser.add_argument("--components", type=int, default=10)
    parser.add_argument("--transforms", type=int, default=4)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    digits = data.load(asked.data, binarize="dynamic")
    test = digits.test.fixed(0, asked.limit).x
    print(
        f"{asked.data}, {asked.epochs} epochs of batches of {asked.batch_size}, "
        f"{asked.hidden}-{asked.latent_dim}, the first half under the standard normal; "
        f"{len(test)} test data, {asked.particles} particles; "
        f"seed {asked.seed}",
        flush=True,
    )
    base = None
    start = begun(digits, asked)
    for row in asked.rows:
        clock = time.perf_counter()
        program = trained(row, copy.deepcopy(start), digits, asked)
        seconds = time.perf_counter() - clock
        found = log_evidence(program, None, test, particles=asked.particles, seed=0)
        bound = elbo(program, None, test, particles=100, seed=0).mean()
        used = collapse(program, None, test[:1000], seed=0)
        shown = "; ".join(layer_by_layer(used))
        if used.marginal_kl is not None:
            shown = f"{shown}; KL of q(z) {used.marginal_kl.mean()}"
        print(
            f"{row:16} log p(x) {found.mean()}  gain {gain(found, base):36} ELBO {bound}  {shown}; "
            f"{seconds:.0f} s",
            flush=True,
        )
        if row == "standard-normal":
            base = found


if __name__ == "__main__":
    main()
