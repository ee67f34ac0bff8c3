"""How far a ladder of guides brings k̂ down on MNIST, where a diagonal guide of 50 latents fails.

`PPL_GEN_DATA=FOLDER OMP_NUM_THREADS=1 python tests/benchmarks/choose_guide_table.py`: a VAE
(784-200-200-50) after a few epochs, then each rung of `choose_guide` on the same test digits: ELBO
and log evidence by importance weights in nats, the share of digits whose k̂ is above its limit, and
seconds. Last the rungs whose objective covers more (DReG), and a mixture fitted likewise.
"""

from __future__ import annotations

import argparse
import warnings

import torch

from ppl_gen import data, guides
from ppl_gen.inference import (
    Amortised,
    ByDatum,
    DReG,
    GaussianMixtureByDatum,
    KHatBelow,
    choose_guide,
    full_covariance,
    iterate,
    svi_step,
)
from ppl_gen.inference.posteriors.ladder import LADDER, AsItIs, Rung
from ppl_gen.models import VAE, vae


def fitted(images: data.Dataset, asked: argparse.Namespace) -> VAE:
    """The VAE after so many epochs."""
    torch.manual_seed(asked.seed)
    program = vae(images.shape, asked.latent_dim, hidden=(200, 200))
    optimizer = torch.optim.Adam(program.parameters(), 2e-3)
    batches = images.train.batches(100)
    step = svi_step(program, optimizer, engine=asked.engine, steps=len(batches) * asked.epochs)
    for record in iterate(step, batches, asked.epochs):
        print(f"epoch {record.epoch}: {record.metrics}", flush=True)
    return program


def rungs(program: VAE, asked: argparse.Namespace) -> list[Rung]:
    """The usual ladder with so many steps, semi-amortised, and objectives that cover more."""
    ladder: list[Rung] = [AsItIs()]
    for rung in LADDER[1:]:
        assert isinstance(rung, ByDatum)
        ladder.append(ByDatum(rung.name, rung.family, steps=asked.steps))
    slots = (program.encoder, program.prior, program.decoder, program.likelihood)
    ladder.append(Amortised("semi-amortised", guides.SemiAmortised(*slots), ()))
    covering = DReG(asked.covering)
    for name, family in (("full", full_covariance), ("mixture", GaussianMixtureByDatum())):
        ladder.append(ByDatum(f"{name}, DReG", family, steps=asked.steps, objective=covering))
    return ladder


def main() -> None:
    """Fits, and climbs rung by rung."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--latent-dim", type=int, default=50)
    parser.add_argument("--limit", type=int, default=100, help="so many test digits")
    parser.add_argument("--steps", type=int, default=500, help="of each rung that is fitted")
    parser.add_argument("--particles", type=int, default=1000)
    parser.add_argument("--covering", type=int, default=16, help="particles of DReG")
    parser.add_argument("--engine", default="fx", help="auto, inductor, fx or eager")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    images = data.load(asked.data, binarize="dynamic")
    program = fitted(images, asked)
    x = images.test.fixed(0, asked.limit).x
    warnings.simplefilter("ignore")
    for rung in rungs(program, asked):
        found = choose_guide(
            program,
            x,
            ladder=[rung],
            until=KHatBelow(0.3),
            particles=asked.particles,
            engine=asked.engine,
            seed=1,
        )
        print(f"{found.headline}; {found.rungs[0].seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
