"""Novelty: digits left out one class at a time, and malignant tumours where only benign ones were
seen; areas under the ROC of three scores, beside neighbours in pixels and an isolation forest.

`OMP_NUM_THREADS=1 python tests/benchmarks/anomaly_table.py`. Novel are all data of the class that
is left out, usual the other test data. An area has DeLong's standard error; the mean over classes
has that of the data, √Σ s² / 10, and the sd over classes beside it. Published means of VAEs on
MNIST, by reconstruction probability, are about 0.73.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from sklearn.ensemble import IsolationForest
from torch import Tensor

from ppl_gen import data, inference, models
from ppl_gen.inference import (
    Share,
    code_distance,
    detection,
    encode,
    improbability,
    reconstruction_error,
    reconstruction_step,
    svi_step,
)
from ppl_gen.likelihoods import Gaussian

Scores = Callable[[Tensor], dict[str, Tensor]]


def fitted_vae(x: Tensor, latent_dim: int, epochs: int, seed: int) -> Scores:
    """Scores of a VAE with normal noise of one learned scale."""
    torch.manual_seed(seed)
    shape = x.shape[1:]
    likelihood = Gaussian(initial_scale=0.3)
    program = models.vae(shape, latent_dim, hidden=(200,), likelihood=likelihood)
    optimizer = torch.optim.Adam(program.parameters(), 1e-3)
    batches = data.Split(x).batches(min(100, len(x)))
    steps = epochs * len(batches)
    step = svi_step(program, optimizer, inference.AnalyticELBO(), steps=steps, engine="fx")
    inference.fit(step, batches, epochs, progress=False)
    usual = encode(program, x).mean

    def scores(seen: Tensor) -> dict[str, Tensor]:
        evidence = improbability(program, seen, particles=200, seed=0).value
        return {
            "VAE: reconstruction error": reconstruction_error(program, seen),
            "VAE: −log p(x)": evidence,
            "VAE: distance in code": code_distance(encode(program, seen).mean, usual),
        }

    return scores


def fitted_autoencoder(x: Tensor, latent_dim: int, epochs: int, seed: int) -> Scores:
    """Scores of an autoencoder."""
    torch.manual_seed(seed)
    program = models.autoencoder(x.shape[1:], latent_dim, hidden=(200,))
    optimizer = torch.optim.Adam(program.parameters(), 1e-3)
    batches = data.Split(x).batches(min(100, len(x)))
    step = reconstruction_step(program, optimizer, engine="fx")
    inference.fit(step, batches, epochs, progress=False)
    usual = encode(program, x).mean

    def scores(seen: Tensor) -> dict[str, Tensor]:
        return {
            "AE: reconstruction error": reconstruction_error(program, seen),
            "AE: distance in code": code_distance(encode(program, seen).mean, usual),
        }

    return scores


def references(x: Tensor, seed: int) -> Scores:
    """Scores without a model of ours: PCA, neighbours in the data themselves, a forest."""
    forest = IsolationForest(random_state=seed).fit(x.flatten(1).numpy())
    linear = models.pca(x, min(8, x[0].numel() // 2))

    def scores(seen: Tensor) -> dict[str, Tensor]:
        isolated = -forest.score_samples(seen.flatten(1).numpy())
        return {
            "PCA: reconstruction error": reconstruction_error(linear, seen),
            "neighbours in the data": code_distance(seen.flatten(1), x.flatten(1)),
            "isolation forest": torch.as_tensor(isolated),
        }

    return scores


def areas(
    train: Tensor, usual: Tensor, novel: Tensor, latent_dim: int, epochs: int, seed: int
) -> Mapping[str, Share]:
    """The areas of all scores, of everything fitted to the training data."""
    seen = torch.cat([usual, novel])
    is_novel = torch.arange(len(seen)) >= len(usual)
    scores: dict[str, Tensor] = {}
    for fit in (fitted_vae, fitted_autoencoder):
        scores |= fit(train, latent_dim, epochs, seed)(seen)
    scores |= references(train, seed)(seen)
    return detection(scores, is_novel).areas


def show(rows: Sequence[Mapping[str, Share]], what: str) -> None:
    """The mean of each area over rows, with the error of the data and the sd over rows."""
    print(f"| {what} | mean AUC | 95 % interval | sd over rows | least |")
    print("|---|---|---|---|---|")
    for name in rows[0]:
        values = torch.tensor([float(row[name].value) for row in rows])
        errors = torch.tensor([float(row[name].standard_error) for row in rows])
        error = float(errors.square().sum().sqrt()) / len(rows)
        mean = float(values.mean())
        ends = f"{mean - 1.96 * error:.3f} to {mean + 1.96 * error:.3f}"
        spread = float(values.std(correction=0))
        print(f"| {name} | {mean:.3f} ± {error:.3f} | {ends} | {spread:.3f} | {values.min():.3f} |")


def digits(name: str, root: str | None, latent_dim: int, epochs: int, limit: int) -> None:
    """Each class left out in turn."""
    held = data.load(name, root)
    train, test = held.train.fixed(0, limit), held.test.fixed(0, limit)
    assert train.y is not None
    assert test.y is not None
    rows = []
    for label in sorted(train.y.unique().tolist()):
        unseen = torch.cat([test.x[test.y == label], train.x[train.y == label]])
        found = areas(
            train.x[train.y != label],
            test.x[test.y != label],
            unseen,
            latent_dim,
            epochs,
            seed=label,
        )
        rows.append(found)
        said = ", ".join([f"{name} {float(area.value):.3f}" for name, area in found.items()])
        print(f"without {label}: {said}", flush=True)
    show(rows, f"{name}, one class left out")


def tumours(seeds: int, epochs: int) -> None:
    """Malignant tumours, where models and forest have seen benign ones alone."""
    held = data.load("breast_cancer")
    x = torch.cat([held.train.x, held.test.x])
    y = torch.cat([held.train.y, held.test.y])
    benign, malignant = x[y == 1], x[y == 0]
    rows = []
    for seed in range(seeds):
        order = torch.randperm(len(benign), generator=torch.Generator().manual_seed(seed))
        train, usual = benign[order[:250]], benign[order[250:]]
        rows.append(areas(train, usual, malignant, 8, epochs, seed))
    show(rows, f"breast_cancer, malignant among benign, {seeds} splits")


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--root", default=None)
    parser.add_argument("--latent-dim", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--limit", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    start = time.process_time()
    digits(asked.data, asked.root, asked.latent_dim, asked.epochs, asked.limit)
    tumours(asked.seeds, 2 * asked.epochs)
    print(f"{time.process_time() - start:.0f} s of processor time")


if __name__ == "__main__":
    main()
