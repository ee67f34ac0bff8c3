"""DRAW beside the plain VAE on digits, with as many parameters and epochs.

`OMP_NUM_THREADS=2 python tests/benchmarks/draw_table.py`; scikit-learn's digits, binarised anew at
every presentation, Adam at 1e-3. The test score is the importance-weighted log evidence in nats per
datum, with its Monte Carlo error, and with --ais that of annealed importance sampling on the first
digits. The canvas of a DRAW over time goes to --canvas.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ppl_gen import data, plots
from ppl_gen.inference import ais, elbo, fit, log_evidence, svi_step
from ppl_gen.models import draw, vae
from ppl_gen.program import simulate_sites


def parameters(program: torch.nn.Module) -> int:
    """How many numbers are fitted."""
    return sum(p.numel() for p in program.parameters())


def widest(build: Callable[[int], torch.nn.Module], most: int) -> torch.nn.Module:
    """The program of the largest size with at most so many parameters."""
    size = 8
    while parameters(build(size + 1)) <= most:
        size += 1
    return build(size)


def main() -> None:
    """Trains and scores the rows asked for, one line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--hidden", type=int, default=200, help="of the VAE, which sets the size")
    parser.add_argument("--latent-dim", type=int, default=10, help="of the VAE")
    parser.add_argument("--steps", type=int, default=8, help="of DRAW")
    parser.add_argument("--latents", type=int, default=5, help="of each step of DRAW")
    parser.add_argument("--rows", nargs="+", default=["VAE", "DRAW", "attention"])
    parser.add_argument("--particles", type=int, default=1000)
    parser.add_argument("--ais", type=int, default=0, help="digits that AIS is run on")
    parser.add_argument("--temperatures", type=int, default=300)
    parser.add_argument("--engine", default="fx")
    parser.add_argument("--canvas", type=Path)
    asked = parser.parse_args()
    digits = data.load("digits", binarize="dynamic")
    x = digits.test.fixed(0).x
    shape = digits.shape
    hidden = (asked.hidden, asked.hidden)
    most = parameters(vae(shape, asked.latent_dim, hidden=hidden))
    options = {"latent_dim": asked.latents, "steps": asked.steps}
    rows: dict[str, Callable[[], Any]] = {
        "VAE": lambda: vae(shape, asked.latent_dim, hidden=hidden),
        "DRAW": lambda: widest(lambda size: draw(shape, hidden=size, **options), most),
        "attention": lambda: widest(
            lambda size: draw(shape, hidden=size, attention=(4, 5), **options), most
        ),
    }
    for name in asked.rows:
        torch.manual_seed(0)
        program = rows[name]()
        optimizer = torch.optim.Adam(program.parameters(), 1e-3, fused=True)
        start = time.process_time()
        step = svi_step(program, optimizer, engine=asked.engine)
        fit(step, digits.train.batches(asked.batch_size), asked.epochs)
        seconds = time.process_time() - start
        bound = elbo(program, None, x, particles=100, seed=0).mean()
        evidence = log_evidence(program, None, x, particles=asked.particles, seed=0).mean()
        print(
            f"{name:10} {parameters(program):7} parameters: log evidence {evidence} (spread over "
            f"data {float(evidence.sampling_error):.2f}), ELBO {bound}; {seconds:.0f} s of CPU",
            flush=True,
        )
        if asked.ais:
            annealed = ais(
                program,
                x[: asked.ais],
                temperatures=asked.temperatures,
                guide=program.guide,
                seed=0,
            )
            print(f"{'':10} AIS, first {asked.ais}: {annealed.mean()}", flush=True)
        if asked.canvas is not None and name != "VAE":
            torch.manual_seed(0)
            sites = simulate_sites(program, 10)
            latents = [site["value"] for key, site in sites.items() if key != "x"]
            with torch.no_grad():
                figure = plots.canvases(program.canvases(*latents), name)
            figure.savefig(asked.canvas.with_stem(f"{asked.canvas.stem}-{name}"))


if __name__ == "__main__":
    main()
