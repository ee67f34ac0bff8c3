"""Missing pixels: the evidence of those observed, and how well the others are imputed, beside the
mean of a pixel and the nearest neighbours.

`OMP_NUM_THREADS=1 python tests/benchmarks/imputation_table.py --data digits`, or `--data mnist`
with MNIST at hand. Pixels are binarised once; of training and test data alike the same share is
missing at random. Errors of imputed means are root mean squares over missing test pixels, in the
unit of x, with standard errors over test data. Evidence is in nats for the observed pixels of a
test datum.
"""

from __future__ import annotations

import argparse
import time
from typing import NamedTuple

import torch
from sklearn.impute import KNNImputer, SimpleImputer
from torch import Tensor

from ppl_gen import data
from ppl_gen.inference import impute, log_evidence, svi_step
from ppl_gen.likelihoods import Bernoulli, Masked
from ppl_gen.models import VAE, vae
from ppl_gen.nn import ZeroFilled


class Pixels(NamedTuple):
    """Binary pixels, and the same with some of them missing (NaN)."""

    whole: Tensor
    seen: Tensor

    @classmethod
    def of(cls, split: data.Split, limit: int | None, share: float, seed: int) -> Pixels:
        """The first of a split, one draw of them, with a share of the pixels missing."""
        x = split.fixed(seed, limit).x
        # A seed of its own: the same numbers would choose what is missing by what it is.
        generator = torch.Generator().manual_seed(seed + 1000)
        mask = torch.rand(x.shape, generator=generator) < share
        return cls(x, x.masked_fill(mask, torch.nan))


def error(imputed: Tensor, test: Pixels) -> str:
    """√ of the mean square error at missing pixels, ± its standard error over data."""
    missing = test.seen.isnan()
    squares = torch.where(missing, (imputed - test.whole).square(), 0.0).flatten(1).sum(1)
    count = missing.flatten(1).sum(1)
    square = squares.sum() / count.sum()
    residuals = (squares - square * count) / count.double().mean()
    spread = residuals.std() / len(residuals) ** 0.5
    return f"{float(square) ** 0.5:.4f} ± {float(spread / (2 * square**0.5)):.4f}"


def by_pixels(train: Tensor, test: Pixels) -> str:
    """Each pixel an independent coin: the mean of it where it is observed, and its evidence."""
    means = SimpleImputer(keep_empty_features=True).fit(train.flatten(1)).statistics_
    chance = torch.as_tensor(means).float().reshape(train.shape[1:])
    odds = chance.clamp(1e-4, 1 - 1e-4).logit().expand_as(test.seen)
    scores = Masked(Bernoulli())(odds).log_prob(test.seen).flatten(1).sum(1)
    spread = float(scores.std()) / len(scores) ** 0.5
    imputed = torch.where(test.seen.isnan(), chance, test.seen)
    evidence = f"{float(scores.mean()):.3f} (± {spread:.2f} over data)"
    return f"RMSE {error(imputed, test)}, evidence {evidence}"


def by_neighbours(train: Tensor, test: Pixels, neighbours: int) -> str:
    """scikit-learn's mean over the nearest training data, by the pixels that both have."""
    imputer = KNNImputer(n_neighbors=neighbours, keep_empty_features=True).fit(train.flatten(1))
    imputed = torch.as_tensor(imputer.transform(test.seen.flatten(1))).float()
    return f"RMSE {error(imputed.reshape(test.seen.shape), test)}"


def trained(program: VAE, x: Tensor, epochs: int) -> VAE:
    """A VAE after some epochs of batches of 100 by Adam."""
    batches = data.Split(x).batches(100)
    optimizer = torch.optim.Adam(program.parameters(), 1e-3)
    step = svi_step(program, optimizer, steps=epochs * len(batches), engine="fx")
    for _ in range(epochs):
        for batch in batches:
            step(*batch)
    return program


def by_vae(program: VAE, test: Pixels, particles: int) -> str:
    """Evidence of what is observed, and error of the means of what is not."""
    evidence = log_evidence(program, None, test.seen, particles=particles, seed=0).mean()
    found = impute(program, test.seen, particles=particles, draws=20, seed=0)
    lower, upper = found.interval(0.9)
    missing = found.missing
    inside = ((test.whole >= lower) & (test.whole <= upper))[missing].double().mean()
    limit = f"k̂ up to {float(found.k_hat.max()):.2f}, ESS from {float(found.ess.min()):.1f}"
    spread = float(evidence.sampling_error)
    return (
        f"RMSE {error(found.mean, test)}, evidence {evidence} (± {spread:.2f} over data), 90 % "
        f"intervals hold {inside:.1%}; {limit}"
    )


def main() -> None:
    """Prints a line for each way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits")
    parser.add_argument("--share", type=float, default=0.3, help="of pixels that are missing")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--limit", type=int, default=200, help="test data")
    parser.add_argument("--neighbours", type=int, default=10)
    parser.add_argument("--subset", type=int, default=2000, help="training data for neighbours")
    parser.add_argument("--particles", type=int, default=1000)
    parser.add_argument("--latent-dim", type=int, default=20)
    asked = parser.parse_args()
    loaded = data.load(asked.data, binarize="dynamic")
    train = Pixels.of(loaded.train, None, asked.share, 0)
    test = Pixels.of(loaded.test, asked.limit, asked.share, 1)
    print(
        f"{asked.data}: {asked.share:.0%} of the pixels missing, {len(train.whole)} training and "
        f"{len(test.whole)} test data; {asked.epochs} epochs, {asked.particles} particles",
        flush=True,
    )

    def said(row: str, start: float, found: str) -> None:
        print(f"{row:32} {found}; {time.perf_counter() - start:.0f} s", flush=True)

    start = time.perf_counter()
    said("mean of the pixel", start, by_pixels(train.seen, test))
    start = time.perf_counter()
    row = f"{asked.neighbours} neighbours of {min(asked.subset, len(train.seen))}"
    said(row, start, by_neighbours(train.seen[: asked.subset], test, asked.neighbours))
    start = time.perf_counter()
    torch.manual_seed(0)
    masked = vae(loaded.shape, asked.latent_dim, likelihood=Masked(Bernoulli()))
    said(
        "VAE, of what is observed",
        start,
        by_vae(trained(masked, train.seen, asked.epochs), test, asked.particles),
    )
    start = time.perf_counter()
    torch.manual_seed(0)
    whole = trained(vae(loaded.shape, asked.latent_dim), train.whole, asked.epochs)
    whole.likelihood = Masked(whole.likelihood)
    whole.encoder = ZeroFilled(whole.encoder)
    said("VAE, of whole data, then masked", start, by_vae(whole, test, asked.particles))


if __name__ == "__main__":
    main()
