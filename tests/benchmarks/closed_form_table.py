"""What a KL in closed form saves: the variance of the gradient of the encoder, by AnalyticELBO and
by Trace_ELBO, at the start and after some epochs on digits.

`OMP_NUM_THREADS=1 python tests/benchmarks/closed_form_table.py`.
"""

from __future__ import annotations

import argparse

import torch
from pyro.infer import Trace_ELBO
from torch import Tensor

from ppl_gen import data, guides
from ppl_gen.inference import AnalyticELBO, iterate, svi_step
from ppl_gen.models import VAE, vae

FAMILIES = {"diagonal": guides.diagonal, "full-covariance": guides.full_covariance}


def variance_of_gradient(program: VAE, objective: Trace_ELBO, x: Tensor, repeats: int) -> float:
    """The variance of the encoder's gradient, summed over its entries."""
    parameters = list(program.encoder.parameters())
    draws = []
    for _ in range(repeats):
        loss = objective.differentiable_loss(program.model, program.guide, x) / len(x)
        found = torch.autograd.grad(loss, parameters)
        draws.append(torch.cat([gradient.flatten() for gradient in found]))
    return float(torch.stack(draws).var(0).sum())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=50, help="before variances are taken again")
    parser.add_argument("--repeats", type=int, default=300, help="gradients for a variance")
    asked = parser.parse_args()
    images = data.load("digits", binarize="threshold")
    x = images.train.x[:100]
    for name, family in FAMILIES.items():
        torch.manual_seed(0)
        program = vae(images.shape, 10, guide=family)
        step = svi_step(program, torch.optim.Adam(program.parameters(), 1e-3))
        for passed in (0, asked.epochs):
            if passed:
                list(iterate(step, images.train.batches(100), passed))
            drawn = variance_of_gradient(program, Trace_ELBO(), x, asked.repeats)
            closed = variance_of_gradient(program, AnalyticELBO(), x, asked.repeats)
            print(
                f"{name}, {passed} epochs: variance of the encoder's gradient {drawn:.3g} by "
                f"draws, {closed:.3g} with the KL in closed form, {drawn / closed:.2f} times less",
                flush=True,
            )


if __name__ == "__main__":
    main()
