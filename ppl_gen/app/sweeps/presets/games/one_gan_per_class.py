"""One GAN for each class, one for all given the label, and one that finds classes by itself."""

from __future__ import annotations

__all__ = ["PRESET"]

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from scipy.optimize import linear_sum_assignment
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from ppl_gen.app.sweeps.cell import Cell, save_arrays
from ppl_gen.app.sweeps.numbers import average
from ppl_gen.app.sweeps.preset import Preset, Scope, in_memory
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.contexts import evaluating
from ppl_gen.critics import mlp_critic
from ppl_gen.data import Split
from ppl_gen.inference import adversarial_step, energy_distance, fit, information_loss
from ppl_gen.models import cgan, gan, infogan
from ppl_gen.plots.style import array, panels, styled

METHODS = ("one per class", "given the label", "finds codes")
LATENT_DIM = 10
RATE = 1e-3
BETAS = (0.0, 0.9)  # of Adam
R1 = 0.1
BATCH = 50
DRAWS = 100  # of each class, or test data of it
SEEDS = 2

_SHOWN = 8  # draws of a class in the picture
_FRAME = 0.3  # grey between images
_READERS = 5  # neighbours of a draw that say what it is

Drawing = Callable[[int, int], Tensor]  # of a class and a number of draws


def measure(
    folder: Path,
    *,
    data: str,
    method: str,
    hidden: int,
    epochs: int,
    seed: int,
    root: str | None,
) -> Mapping[str, Any]:
    """Fits one or ten GANs, all data being seen equally often, and looks at draws of each class.

    Args:
        folder: Of the cell.
        data: Their name or path, labelled.
        method: One of `METHODS`.
        hidden: Width of both hidden layers of each network.
        epochs: Passes over all data.
        seed: Of weights, order and noise.
        root: Folder of torchvision's data.
    """
    train, test = in_memory(data, root)
    if train.y is None or test.y is None:
        raise ValueError(f"expected labelled data, got {data}; name others with --data")
    readers = KNeighborsClassifier(_READERS).fit(array(train.x.flatten(1)), array(train.y))
    fits = dict(zip(METHODS, (_one_per_class, _given_the_label, _finds_codes), strict=True))
    networks, draw = fits[method](train, hidden, epochs)
    classes = int(train.y.max()) + 1
    with evaluating(networks):
        drawn = torch.stack([draw(label, DRAWS) for label in range(classes)])
    read = torch.as_tensor(readers.predict(array(drawn.flatten(0, 1).flatten(1))))
    read = read.reshape(classes, DRAWS)
    if method == METHODS[-1]:
        order = _named(read, classes)
        drawn = drawn[order]
        read = read[order]
    labels = torch.arange(classes)[:, None]
    distances = []
    for label in range(classes):
        of_class = test.x[test.y == label][:DRAWS].flatten(1)
        distances.append(energy_distance(drawn[label].flatten(1), of_class))
    values = torch.stack([distance.value for distance in distances])
    errors = torch.stack([distance.standard_error for distance in distances])
    save_arrays(folder, drawn=drawn[:, :_SHOWN])
    return {
        "read as their class": average(read == labels),
        "energy distance": (float(values.mean()), float(errors.norm()) / classes),
        "weights": sum(parameter.numel() for parameter in networks.parameters()),
    }


def _named(read: Tensor, classes: int) -> Tensor:
    """The code of each class: as most draws of all codes are read rightly."""
    counts = torch.stack([torch.bincount(row, minlength=classes) for row in read])
    codes, named = linear_sum_assignment(array(counts), maximize=True)
    order = torch.empty(classes, dtype=torch.long)
    order[torch.as_tensor(named)] = torch.as_tensor(codes)
    return order


def _one_per_class(train: Split, hidden: int, epochs: int) -> tuple[nn.Module, Drawing]:
    """A GAN and a critic for each class, fitted to its data alone."""
    programs = []
    for label in range(int(_labels(train).max()) + 1):
        program = gan(train.x.shape[1:], LATENT_DIM, hidden=(hidden, hidden))
        own = Split(train.x[_labels(train) == label])
        _play(program, mlp_critic(train.x.shape[1:], hidden=(hidden, hidden)), own, epochs)
        programs.append(program)
    networks = nn.ModuleList(programs)
    return networks, lambda label, n: programs[label].decoder(torch.randn(n, LATENT_DIM))


def _given_the_label(train: Split, hidden: int, epochs: int) -> tuple[nn.Module, Drawing]:
    """One conditional GAN."""
    classes = int(_labels(train).max()) + 1
    widths = (hidden, hidden)
    program = cgan(train.x.shape[1:], LATENT_DIM, classes=classes, hidden=widths)
    _play(program, mlp_critic(train.x.shape[1:], classes=classes, hidden=widths), train, epochs)

    def draw(label: int, n: int) -> Tensor:
        labels = torch.full((n,), label)
        return program.decoder(torch.randn(n, LATENT_DIM), labels)

    return program, draw


def _finds_codes(train: Split, hidden: int, epochs: int) -> tuple[nn.Module, Drawing]:
    """An InfoGAN without labels, whose code has as many values as there are classes."""
    classes = int(_labels(train).max()) + 1
    widths = (hidden, hidden)
    program = infogan(train.x.shape[1:], LATENT_DIM, categories=classes, hidden=widths)
    loss = information_loss(program.posterior, 1.0)
    _play(program, mlp_critic(train.x.shape[1:], hidden=widths), Split(train.x), epochs, loss)

    def draw(code: int, n: int) -> Tensor:
        codes = nn.functional.one_hot(torch.full((n,), code), classes).float()
        return program.decoder(torch.randn(n, LATENT_DIM), codes)

    return program, draw


def _labels(train: Split) -> Tensor:
    labels: Tensor = train.y  # type: ignore[assignment]
    return labels


def _play(
    program: nn.Module, critic: nn.Module, train: Split, epochs: int, auxiliary: Any = None
) -> None:
    """Fits a program against a critic."""
    made: Any = program
    step = adversarial_step(
        made,
        critic,
        torch.optim.Adam(program.parameters(), RATE, BETAS),
        torch.optim.Adam(critic.parameters(), RATE, BETAS),
        r1=R1,
        auxiliary=auxiliary,
    )
    fit(step, train.batches(min(BATCH, len(train))), epochs, progress=False)


def cells(scope: Scope) -> Sequence[Cell]:
    """Each method, twice."""
    settings: dict[str, Any] = {"hidden": 256, "epochs": scope.count(30)}
    if scope.is_look:
        settings = {"hidden": 64, "epochs": scope.count(60)}
    made = []
    for method in METHODS:
        for seed in range(SEEDS):
            made.append(scope.cell(measure, method=method, **settings, seed=seed))
    return made


@styled
def draw(results: Results) -> Figure:
    """Draws of each class, a row for each, by each method."""
    figure, axes = panels(len(METHODS), width=3.6, height=4.6)
    for panel, method in zip(axes, METHODS, strict=True):
        row = results.row(method=method)
        drawn = row.cells[0].arrays["drawn"]
        framed = nn.functional.pad(drawn[:, :, 0], (1, 1, 1, 1), value=_FRAME)
        classes, n, height, width = framed.shape
        sheet = framed.permute(0, 2, 1, 3).reshape(classes * height, n * width)
        panel.imshow(array(sheet), cmap="gray", vmin=0, vmax=1)
        right = row.numbers["read as their class"].mean
        panel.set_title(f"{method}: {right:.0%} read as their class")
        panel.set_xticks([])
        middles = [(label + 0.5) * height for label in range(classes)]
        panel.set_yticks(middles, [str(label) for label in range(classes)])
    return figure


def say(results: Results) -> Sequence[str]:
    """What is compared."""
    return (
        "all data are seen equally often by each method; the energy distance is that of draws of a "
        "class to its test data, averaged over classes. Codes that were found without labels are "
        "named by the class that their draws are read as",
        f"draws are read by {_READERS} neighbours among the training data",
    )


PRESET = Preset(
    shows="one GAN for each class, one given the label, and InfoGAN, which finds classes",
    figure="L0, conditional GANs",
    cells=cells,
    draw=draw,
    say=say,
)
