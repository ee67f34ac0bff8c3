"""A classifier fine-tuned from a greedy stack against one from random weights, with few labels.

`OMP_NUM_THREADS=1 PPL_GEN_DATA=data python tests/benchmarks/stacked_table.py --data mnist --labels
100 --seeds 5`. Pretraining sees the training data without their labels: each layer is a denoising
autoencoder of the codes below it (Vincent et al., 2010). Then both classifiers, of one form, are
fitted to the same labels by cross-entropy with the same steps. A seed says which labels are kept,
the weights and the order. Printed are the test accuracies of each seed, and their mean difference
with its standard error over seeds.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from typing import Any

import torch
from torch import Tensor, nn

from ppl_gen import data
from ppl_gen.corruptions import masking
from ppl_gen.data import Split
from ppl_gen.inference import classification_step, fit, greedy_step
from ppl_gen.labels import few_labels
from ppl_gen.models import Autoencoder, autoencoder_layers, classifier, stacked

ACTIVATIONS = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU}


def layers_of(digits: data.Dataset, asked: Any, seed: int) -> list[Autoencoder]:
    """New layers, drawn from a seed."""
    torch.manual_seed(seed)
    return autoencoder_layers(digits.shape, asked.widths, activation=ACTIVATIONS[asked.activation])


def pretrain(layers: list[Autoencoder], x: Tensor, asked: Any) -> None:
    """Fits each layer to the codes of those before it, for some epochs each."""
    whole = stacked(layers)
    optimizers = [torch.optim.Adam(part.parameters(), 1e-3) for part in (*layers, whole)]
    batches = Split(x).batches(asked.batch_size)
    steps = asked.epochs * len(batches)
    step = greedy_step(layers, optimizers, steps, corruption=masking(asked.noise), engine="fx")
    fit(step, batches, asked.epochs * len(layers), progress=False)


def accuracy(layers: list[Autoencoder], labelled: Split, digits: data.Dataset, asked: Any) -> float:
    """The share of test labels that a classifier finds, fitted from the weights of the layers."""
    torch.manual_seed(0)
    net = classifier(stacked(layers).encoder, asked.widths[-1], digits.classes or 10)
    step = classification_step(net, torch.optim.Adam(net.parameters(), asked.lr), engine="fx")
    fit(step, labelled.batches(20), asked.tuning, progress=False)
    test = digits.test.fixed()
    hits = []
    with torch.no_grad():
        for x, y in zip(test.x.split(1000), test.y.split(1000), strict=True):
            hits.append((net(x).argmax(1) == y).double())
    return float(torch.cat(hits).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--widths", type=int, nargs="+", default=[500, 250, 100])
    parser.add_argument("--activation", choices=ACTIVATIONS, default="sigmoid")
    parser.add_argument("--unlabelled", type=int, default=10_000, help="data of the pretraining")
    parser.add_argument("--epochs", type=int, default=4, help="of each layer")
    parser.add_argument("--tuning", type=int, default=60, help="epochs of the classifiers")
    parser.add_argument("--noise", type=float, default=0.3, help="share of values masked")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--lr", type=float, default=1e-3, help="of the classifiers")
    asked = parser.parse_args()
    digits = data.load(asked.data, root=os.environ.get("PPL_GEN_DATA"))
    train = digits.train.fixed()
    gains = []
    for seed in range(asked.seeds):
        start = time.process_time()
        kept = few_labels(train.y, asked.labels, seed=seed) >= 0
        labelled = Split(train.x[kept], train.y[kept])
        found = {}
        for name in ("random", "pretrained"):
            layers = layers_of(digits, asked, seed)
            if name == "pretrained":
                rows = torch.randperm(len(train.x))[: asked.unlabelled]
                pretrain(layers, train.x[rows], asked)
            found[name] = accuracy(layers, labelled, digits, asked)
        gains.append(found["pretrained"] - found["random"])
        spent = time.process_time() - start
        print(
            f"seed {seed}: random {found['random']:.4f}, pretrained {found['pretrained']:.4f}, "
            f"gain {gains[-1]:+.4f} ({spent:.0f} CPU s)",
            flush=True,
        )
    gain = torch.tensor(gains, dtype=torch.float64)
    error = float(gain.std()) / math.sqrt(len(gain)) if len(gain) > 1 else math.nan
    print(
        f"{asked.labels} labels, {asked.seeds} seeds: mean gain {float(gain.mean()):+.4f} ± "
        f"{error:.4f}, {float(gain.mean()) / error:.1f} standard errors"
    )


if __name__ == "__main__":
    main()
