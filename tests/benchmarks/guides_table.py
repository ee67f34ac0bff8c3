"""What each family of guides is worth: VAEs that differ in nothing else, after as many epochs, with
their evidence and where the nats between it and the ELBO go.

`OMP_NUM_THREADS=1 python tests/benchmarks/guides_table.py --data digits --epochs 100`, or with
`--data mnist` where MNIST lies at hand (its pixels are binarised anew in each epoch). The evidence
is that of the first test data by importance weighting, each error that of Monte Carlo; the gaps are
those of `ppl_gen.inference.gaps` on the first of these data, each datum's own q being found from
where the guide is, and their evidence by annealed importance sampling. The last column is by how
much that is above importance weighting: what a poor guide makes the first column miss.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ppl_gen import data, guides
from ppl_gen.inference import Estimate, Gaps, elbo, gaps, iterate, log_evidence, svi_step
from ppl_gen.models import VAE, vae

Builder = Callable[..., VAE]


def semi_amortised(*args: object, **options: object) -> VAE:
    """A VAE whose diagonal guide is made better by a few steps."""
    program = vae(*args, **options)
    slots = (program.encoder, program.prior, program.decoder, program.likelihood)
    program.encoder = guides.SemiAmortised(*slots)
    return program


def of_family(family: guides.Family) -> Builder:
    """A builder of VAEs with a guide of this family."""

    def build(*args: object, **options: object) -> VAE:
        return vae(*args, guide=family, **options)

    return build


ROWS: dict[str, Builder] = {
    "diagonal": of_family(guides.diagonal),
    "full-covariance": of_family(guides.full_covariance),
    "low-rank": of_family(guides.low_rank),
    "flow": of_family(guides.flow),
    "mixture": of_family(guides.mixture),
    "semi-amortised": semi_amortised,
}


def trained(build: Builder, images: data.Dataset, asked: argparse.Namespace) -> VAE:
    """A VAE after so many epochs, its learning rate falling in a straight line to a tenth."""
    torch.manual_seed(asked.seed)
    program = build(images.shape, asked.latent_dim, hidden=tuple(asked.hidden))
    optimizer = torch.optim.Adam(program.parameters(), asked.lr)
    batches = images.train.batches(asked.batch)
    steps = len(batches) * asked.epochs
    step = svi_step(program, optimizer, engine=asked.engine, steps=steps)
    for record in iterate(step, batches, asked.epochs):
        left = 1 - record.epoch / asked.epochs
        optimizer.param_groups[0]["lr"] = asked.lr * (0.1 + 0.9 * left)
    return program


def judged(
    program: VAE, x: Tensor, asked: argparse.Namespace
) -> tuple[Estimate, Estimate, Gaps, Estimate]:
    """Evidence, ELBO, the gaps of the first data, and by how much their evidence is above."""
    evidence = log_evidence(program, None, x, particles=asked.particles, seed=0)
    bound = elbo(program, None, x, particles=100, seed=0)
    split = gaps(program, None, x[: asked.gaps], richer=None, steps=asked.refit_steps, seed=0)
    few = slice(asked.gaps)
    weighted = Estimate(evidence.value[few], evidence.standard_error[few])
    return evidence.mean(), bound.mean(), split, (split.evidence - weighted).mean()


def main() -> None:
    """Trains and judges the rows asked for, one line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="digits", help="digits, mnist, or a folder")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=100, help="data per step")
    parser.add_argument("--lr", type=float, default=2e-3, help="first learning rate of Adam")
    parser.add_argument("--latent-dim", type=int, default=10)
    parser.add_argument("--hidden", type=int, nargs="+", default=[200, 200])
    parser.add_argument("--train", type=int, default=None, help="train on so many data")
    parser.add_argument("--limit", type=int, default=1000, help="judge on the first so many")
    parser.add_argument("--particles", type=int, default=5000, help="importance samples per datum")
    parser.add_argument("--gaps", type=int, default=100, help="split the gap of so many")
    parser.add_argument("--refit-steps", type=int, default=500, help="steps of each datum's own q")
    parser.add_argument("--engine", default="auto", help="auto, inductor, fx or eager")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    images = data.load(asked.data, binarize="dynamic")
    if asked.train is not None:
        fewer = replace(images.train, x=images.train.x[: asked.train], y=None)
        images = replace(images, train=fewer)
    x = images.test.fixed(0, asked.limit).x
    print(
        f"{asked.data}, {asked.epochs} epochs, {asked.latent_dim} latents, {len(x)} test data, "
        f"{asked.particles} particles; gaps of {asked.gaps} data; nats per datum\n"
        f"{'guide':16}{'log p(x)':>20}{'ELBO':>20}{'approximation':>18}{'amortisation':>18}"
        f"{'missed':>18}  training",
        flush=True,
    )
    for row in asked.rows:
        start = time.process_time()
        program = trained(ROWS[row], images, asked)
        seconds = time.process_time() - start
        evidence, bound, split, missed = judged(program, x, asked)
        print(
            f"{row:16}{evidence!s:>20}{bound!s:>20}{split.approximation.mean()!s:>18}"
            f"{split.amortisation.mean()!s:>18}{missed!s:>18}  {seconds:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
