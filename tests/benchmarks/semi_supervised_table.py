"""Semi-supervised classification with few labels: M2 on pixels, M1+M2 on the codes of a VAE.

`OMP_NUM_THREADS=1 python tests/benchmarks/semi_supervised_table.py --minutes 15 --draws 0 1 2 3 4`,
with MNIST under PPL_GEN_DATA; `--data digits --minutes 0.2 --draws 0` tries it. Each row is given
so many CPU minutes, and labels drawn by the number of the draw. M1 sees no labels: it is fitted
once, in a third of the time, and that third is taken from each draw of M1+M2. The classifier of M2
is convolutional, learns more slowly than the rest, and never sees a label but those it is given.
Kingma, Rezende, Mohamed and Welling (2014), table 1, report 0.8803 ± 0.0171 of M2 and 0.9667 ±
0.0014 of M1+M2 with 100 labels. The evidence has the label summed out, in nats per datum.
`--picture FILE.png` draws samples of the last program, a row for each label.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from pyro import poutine
from torch import Tensor, nn
from torchvision.utils import save_image

from ppl_gen import data
from ppl_gen.guides import Classifier
from ppl_gen.inference import log_evidence, svi_step
from ppl_gen.inference.fitting.objectives import Enumerated
from ppl_gen.inference.prediction.labels import accuracy
from ppl_gen.labels import few_labels
from ppl_gen.likelihoods import HeteroscedasticGaussian
from ppl_gen.models import VAE, SemiSupervisedVAE, StackedVAE, ss_vae, vae
from ppl_gen.nn import Batched

_ONLY_LABELS = 200  # first steps, on data with labels alone
_CODE = 50  # the dimension of M1's z
_EACH = 10  # samples of each label in the picture


def trained_on_pixels(images: data.Dataset, seconds: float) -> VAE:
    """M1 after so many CPU seconds, its learning rate falling to zero."""
    program = vae(images.shape, _CODE, hidden=(500,))
    optimizer = torch.optim.Adam(program.parameters(), 2e-3, fused=True)
    step = svi_step(program, optimizer, engine="fx")
    start = time.process_time()
    while True:
        for batch in images.train.batches(100):
            left = 1 - (time.process_time() - start) / seconds
            if left <= 0:
                return program.requires_grad_(False)
            optimizer.param_groups[0]["lr"] = 2e-3 * left
            step(*batch)


def convolutional(channels: int, side: int, classes: int) -> Classifier:
    """q(y | x) of two strided convolutions, with dropout before its last layer."""
    quarter = -(-side // 4)
    net = nn.Sequential(
        nn.Conv2d(channels, 16, 5, 2, 2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 5, 2, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(32 * quarter**2, classes),
    )
    return Classifier(Batched(net))


class Batches:
    """Endless batches of data without a label, and some with one behind them, binarised anew.

    Args:
        split: Grey images.
        y: Labels (N,), −1 where missing.
        unknown: How many data without a label are in a batch.
        known: How many with one.
    """

    def __init__(self, split: data.Split, y: Tensor, unknown: int, known: int) -> None:
        self.x = split.x
        self.y = y
        self.labelled = (y >= 0).nonzero()[:, 0]
        self.unknown = unknown
        self.known = known

    def only_labels(self) -> tuple[Tensor, Tensor]:
        """A batch of all data with a label."""
        return self._at(self.labelled)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            for rows in torch.randperm(len(self.y)).split(self.unknown):
                if len(rows) == self.unknown:
                    chosen = torch.randint(len(self.labelled), (self.known,))
                    yield self._at(torch.cat([rows, self.labelled[chosen]]))

    def _at(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return torch.bernoulli(self.x[rows]), self.y[rows]


def fitted(
    program: SemiSupervisedVAE | StackedVAE,
    classifier: nn.Module,
    batches: Batches,
    seconds: float,
    asked: argparse.Namespace,
) -> None:
    """Fits q and p for so many CPU seconds, first to the data with labels alone."""
    start = time.process_time()
    slow = list(classifier.parameters())
    rest = [p for p in program.parameters() if not any(p is other for other in slow)]
    groups = [{"params": [p for p in rest if p.requires_grad]}, {"params": slow}]
    optimizer = torch.optim.Adam(groups, asked.rate, fused=True)
    # α is of each datum with a label, asked for as the weight of their average.
    alpha = asked.alpha * asked.unknown / asked.known
    step = svi_step(program, optimizer, Enumerated(labels=alpha), engine="fx")
    for _ in range(_ONLY_LABELS):
        step(*batches.only_labels())
    if isinstance(program, SemiSupervisedVAE):
        optimizer.param_groups[1]["lr"] = asked.slow * asked.rate
    for batch in batches:
        step(*batch)
        if time.process_time() > start + seconds:
            return


def program_of(
    row: str, images: data.Dataset, below: VAE | None, asked: argparse.Namespace
) -> tuple[SemiSupervisedVAE | StackedVAE, nn.Module]:
    """A program before it is fitted, and its classifier."""
    classes = images.classes or 0
    options = {"classes": classes, "hidden": (asked.hidden,)}
    if row == "M1+M2" and below is not None:
        likelihood = HeteroscedasticGaussian()
        above = ss_vae((_CODE,), asked.latent, likelihood=likelihood, **options)
        return StackedVAE(below, above), above.classifier
    classifier = convolutional(images.shape[0], images.shape[-1], classes)
    program = ss_vae(
        images.shape, asked.latent, activation=nn.ReLU, classifier=classifier, **options
    )
    return program, classifier


def main() -> None:
    """Trains and scores the rows asked for, for each draw of the labels."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=["digits", "mnist"], default="mnist")
    parser.add_argument("--rows", nargs="+", choices=["M2", "M1+M2"], default=["M2", "M1+M2"])
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--draws", nargs="+", type=int, default=[0])
    parser.add_argument("--minutes", type=float, default=15.0, help="CPU minutes of each row")
    parser.add_argument("--alpha", type=float, default=1.0, help="of the average labelled datum")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument(
        "--slow", type=float, default=0.1, help="share of the rate, M2's classifier"
    )
    parser.add_argument("--unknown", type=int, default=100, help="data without label in a batch")
    parser.add_argument("--known", type=int, default=20, help="data with a label in a batch")
    parser.add_argument("--hidden", type=int, default=300)
    parser.add_argument("--latent", type=int, default=10, help="the dimension of M2's z")
    parser.add_argument("--limit", type=int, default=1000, help="test data whose evidence is taken")
    parser.add_argument("--particles", type=int, default=500)
    parser.add_argument("--picture", type=Path, help="a file to be written")
    asked = parser.parse_args()
    images = data.load(asked.data)
    y = images.test.y
    if images.train.y is None or y is None or images.classes is None:
        raise ValueError("expected data with labels")
    x = images.test.fixed(0).x.round()
    seconds = 60 * asked.minutes
    below = None
    if "M1+M2" in asked.rows:
        torch.manual_seed(0)
        below = trained_on_pixels(data.load(asked.data, binarize="dynamic"), seconds / 3)
    shares: dict[str, list[float]] = {row: [] for row in asked.rows}
    for row in asked.rows:
        left = seconds
        if row == "M1+M2":
            left = 2 * seconds / 3
        for draw in asked.draws:
            torch.manual_seed(draw)
            known = few_labels(images.train.y, asked.labels, seed=draw)
            program, classifier = program_of(row, images, below, asked)
            batches = Batches(images.train, known, asked.unknown, asked.known)
            fitted(program, classifier, batches, left, asked)
            share = accuracy(program, x, y, draws=20, seed=0)
            shares[row].append(float(share.value))
            evidence = log_evidence(program, None, x[: asked.limit], particles=asked.particles)
            print(f"draw {draw}, {row:5}: accuracy {share}, evidence {evidence.mean()}", flush=True)
    for row, values in shares.items():
        spread = torch.tensor(values)
        if len(values) > 1:
            error = float(spread.std()) / len(values) ** 0.5
            print(
                f"{row:5}: mean over {len(values)} draws {float(spread.mean()):.4f} ± {error:.4f}"
            )
    if asked.picture is not None:
        by_class = torch.arange(images.classes).repeat_interleave(_EACH)
        means = poutine.trace(program.model).get_trace(None, by_class).nodes["x"]["fn"].mean
        save_image(means, asked.picture, nrow=_EACH)


if __name__ == "__main__":
    main()
