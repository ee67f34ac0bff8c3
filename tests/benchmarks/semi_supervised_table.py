"""Semi-supervised classification with few labels: M2 on pixels, M1+M2 on the codes of a VAE.

`OMP_NUM_THREADS=1 python tests/benchmarks/semi_supervised_table.py --minutes 15 --draws 0 1 2 3 4`,
with MNIST under PPL_GEN_DATA; `--data digits --minutes 0.2 --draws 0` tries it. Each row is given
so many CPU minutes (M1+M2 a third of them for M1), and labels drawn by the number of the draw.
Kingma, Rezende, Mohamed and Welling (2014), table 1, report 0.8803 ± 0.0171 of M2 and 0.9667 ±
0.0014 of M1+M2 with 100 labels. The evidence has the label summed out: that of pixels under M2,
that of codes under M1+M2, in nats per datum.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ppl_gen import data
from ppl_gen.inference import log_evidence, svi_step
from ppl_gen.inference.fitting.objectives import Enumerated
from ppl_gen.inference.prediction.labels import accuracy
from ppl_gen.labels import few_labels
from ppl_gen.likelihoods import HeteroscedasticGaussian
from ppl_gen.models import VAE, SemiSupervisedVAE, ss_vae, vae
from ppl_gen.protocols import Step

_ONLY_LABELS = 200  # first steps, on data with labels alone


def trained_on_pixels(images: data.Dataset, seconds: float, latent: int) -> VAE:
    """M1 after so many CPU seconds, its learning rate falling to zero."""
    program = vae(images.shape, latent, hidden=(500,))
    optimizer = torch.optim.Adam(program.parameters(), 2e-3, fused=True)
    step = svi_step(program, optimizer, engine="fx")
    end = time.process_time() + seconds
    while time.process_time() < end:
        for batch in images.train.batches(100):
            left = max(0.0, (end - time.process_time()) / seconds)
            for group in optimizer.param_groups:
                group["lr"] = 2e-3 * left
            step(*batch)
            if left == 0:
                break
    return program


class Batches:
    """Endless batches of data without a label, and some with one behind them.

    Args:
        split: Pixels, or the codes of M1 as `Codes` gives them.
        y: Labels (N,), −1 where missing.
        unknown: How many data without a label are in a batch.
        known: How many with one.
    """

    def __init__(self, split: Codes | data.Split, y: Tensor, unknown: int, known: int) -> None:
        self.split = split
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
        if isinstance(self.split, Codes):
            return self.split.drawn(rows), self.y[rows]
        return torch.bernoulli(self.split.x[rows]), self.y[rows]


class Codes:
    """Codes z1 ~ q(z1 | x) of grey images under M1, drawn anew each time.

    Args:
        program: M1.
        x: Images (N, *shape).
    """

    def __init__(self, program: VAE, x: Tensor) -> None:
        with torch.no_grad():
            posterior = program.encoder(x)
        self.mean = posterior.mean
        self.scale = posterior.stddev

    def drawn(self, rows: Tensor) -> Tensor:
        """Codes of some rows."""
        return torch.normal(self.mean[rows], self.scale[rows])


def fitted(
    program: SemiSupervisedVAE, batches: Batches, seconds: float, asked: argparse.Namespace
) -> None:
    """Fits M2 for so many CPU seconds, first to the data with labels alone."""
    end = time.process_time() + seconds
    optimizer = torch.optim.Adam(program.parameters(), asked.rate, fused=True)
    # α is of each datum with a label, asked for as the weight of their average.
    alpha = asked.alpha * asked.unknown / asked.known
    step: Step = svi_step(program, optimizer, Enumerated(labels=alpha), engine="fx")
    for _ in range(_ONLY_LABELS):
        step(*batches.only_labels())
    for batch in batches:
        step(*batch)
        if time.process_time() > end:
            return


def main() -> None:
    """Trains and scores the rows asked for, for each draw of the labels."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=["digits", "mnist"], default="mnist")
    parser.add_argument("--rows", nargs="+", choices=["M2", "M1+M2"], default=["M1+M2", "M2"])
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--draws", nargs="+", type=int, default=[0])
    parser.add_argument("--minutes", type=float, default=15.0, help="CPU minutes of each row")
    parser.add_argument("--alpha", type=float, default=1.0, help="of the average labelled datum")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--unknown", type=int, default=100, help="data without label in a batch")
    parser.add_argument("--known", type=int, default=10, help="data with a label in a batch")
    parser.add_argument("--hidden", type=int, default=300)
    parser.add_argument("--latent", type=int, default=10, help="the dimension of M2's z")
    parser.add_argument("--limit", type=int, default=1000, help="test data whose evidence is taken")
    parser.add_argument("--particles", type=int, default=500)
    asked = parser.parse_args()
    images = data.load(asked.data)
    y = images.test.y
    if images.train.y is None or y is None or images.classes is None:
        raise ValueError("expected data with labels")
    options = {"classes": images.classes, "hidden": (asked.hidden,), "activation": nn.Softplus}
    shares: dict[str, list[float]] = {row: [] for row in asked.rows}
    for draw in asked.draws:
        known = few_labels(images.train.y, asked.labels, seed=draw)
        for row in asked.rows:
            torch.manual_seed(draw)
            seconds = 60 * asked.minutes
            split: data.Split | Codes = images.train
            x = images.test.fixed(0).x.round()
            program = ss_vae(images.shape, asked.latent, **options)
            if row == "M1+M2":
                dynamic = data.load(asked.data, binarize="dynamic")
                below = trained_on_pixels(dynamic, seconds / 3, 50)
                seconds = 2 * seconds / 3
                split = Codes(below, images.train.x)
                x = Codes(below, images.test.x).mean
                likelihood = HeteroscedasticGaussian()
                program = ss_vae((50,), asked.latent, likelihood=likelihood, **options)
            fitted(program, Batches(split, known, asked.unknown, asked.known), seconds, asked)
            share = accuracy(program, x, y)
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


if __name__ == "__main__":
    main()
