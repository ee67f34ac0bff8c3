"""Binarised test digits on disk: bits back beside −ELBO/log 2, bz2, PNG and JPEG-2000.

`OMP_NUM_THREADS=1 python tests/benchmarks/compression_table.py --data mnist` with MNIST at hand, or
`--data digits`. A VAE is fitted first. Bits are of an image; the bound's error is that of the draws
of the latents, of which compression has one for each image: its spread is printed beside it. Images
per second are of the processor's time, networks included.
"""

from __future__ import annotations

import argparse
import math
import time

import torch

from ppl_gen import data
from ppl_gen.inference import compress, decompress, elbo, svi_step
from ppl_gen.inference.compression.codecs import lossless_sizes
from ppl_gen.models import VAE, vae


def fitted(dataset: data.Dataset, asked: argparse.Namespace) -> VAE:
    """A VAE after some epochs of Adam at 10⁻³."""
    torch.manual_seed(asked.seed)
    program = vae(dataset.shape, asked.latent_dim)
    batches = dataset.train.batches(asked.batch_size)
    optimizer = torch.optim.Adam(program.parameters(), 1e-3)
    step = svi_step(program, optimizer, engine="fx")
    for _ in range(asked.epochs):
        for x, *_ in batches:
            step(x)
    return program


def main() -> None:
    """Fits, compresses, decompresses, compares, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--latent-dim", type=int, default=20)
    parser.add_argument("--limit", type=int, default=None, help="test images, from the first")
    parser.add_argument("--precisions", default="16", help="bits of a latent, between commas")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    dataset = data.load(asked.data, binarize="dynamic")
    begun = time.process_time()
    program = fitted(dataset, asked)
    print(f"fitted in {time.process_time() - begun:.0f} s of the processor's time")
    x = dataset.test.fixed(0, asked.limit).x
    width = math.prod(dataset.shape)
    nat = 1 / math.log(2)
    draws = 100
    bound = elbo(program, None, x, particles=draws, seed=0)
    mean = -bound.mean() * nat
    of_one_draw = bound.standard_error * draws**0.5 * nat
    spread = float(of_one_draw.square().sum().sqrt()) / len(x)
    print(f"{len(x)} images of {asked.data}, binarised")
    print(f"−ELBO/ln 2: {mean:.3f} bits; one draw for each: ± {spread:.3f}")
    for precision in map(int, asked.precisions.split(",")):
        begun = time.process_time()
        held = compress(program, x, precision=precision)
        middle = time.process_time()
        back = decompress(program, held.to_bytes())
        end = time.process_time()
        if not torch.equal(back, x):
            raise SystemExit("the images did not come back")
        own = (held.bits - held.initial_bits) / len(x)
        off = own / float(mean.value) - 1
        speeds = len(x) / (middle - begun), len(x) / (end - middle)
        print(
            f"bits back, {precision} bits a latent: {held.bits_per_datum:.3f} bits "
            f"({held.bits_per_dimension:.4f} per dimension), every pixel back\n"
            f"  without {held.initial_bits} initial bits {own:.3f}, {off:+.3%} of the bound; "
            f"{held.header_bits} bits of a header\n"
            f"  {speeds[0]:,.0f} images/s to compress, {speeds[1]:,.0f} to decompress"
        )
    for name, size in lossless_sizes(x.long().numpy(), 2).items():
        print(f"{name}: {8 * size / len(x):.1f} bits ({8 * size / x.numel():.4f} per dimension)")
    print(f"raw: {width} bits (1 per dimension)")


if __name__ == "__main__":
    main()
