"""Each look at the codes of a run: a function of the subject that returns what it has found."""

from __future__ import annotations

__all__ = ["TAKEN", "expect_answers"]

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ppl_gen import plots
from ppl_gen.app.exploration.anomaly import anomaly, usual_and_novel
from ppl_gen.app.exploration.filling import impute
from ppl_gen.app.exploration.found import Found
from ppl_gen.app.exploration.over_epochs import epochs_kept, over_epochs
from ppl_gen.app.exploration.subject import Subject
from ppl_gen.data.attributes import slant, thickness
from ppl_gen.inference import (
    Directions,
    Estimate,
    Retrieval,
    affinity,
    aggregate_draws,
    attribute_directions,
    energy_distance,
    lattice,
    nearest,
    overlap,
    random_walk,
    reconstruction_error,
    retrieval,
    ticks,
    traversal,
)
from ppl_gen.inference.codes.coder import Codes
from ppl_gen.inference.codes.neighbours import Labelled, over_data
from ppl_gen.names import nearest as nearest_name
from ppl_gen.paths import great_circle, is_autoencoder, straight
from ppl_gen.plots.codes import error_map, latents
from ppl_gen.plots.style import literal
from ppl_gen.program import simulate_sites

_STEPS = 11  # of a path
_MOST_ROWS = 20  # coordinates that are moved in a picture
_MOVED = 100  # test data whose coordinates are moved for the numbers
_WALK = 60  # codes of a walk
_STEP = 0.3  # of a walk
_NEIGHBOURS = 10
_OVERLAPPING = 300  # test data whose pairs are looked at
_DRAWS = 1000  # of the aggregate posterior and the prior
_SHOWN = 20  # of these, decoded
_MEASURES: dict[str, Callable[[Tensor], Tensor]] = {"thickness": thickness, "slant": slant}


def manifold(subject: Subject) -> Found:
    """A lattice of the prior's quantiles, decoded; one for each label of a program with labels."""
    asked = subject.asked
    label = _label(subject)
    labels: list[int | None] = [label]
    classes = _classes(subject)
    if label is None and classes:
        labels = list(range(classes))
    side = asked.side
    if len(labels) > 1:
        side = min(side, 10)
    tiles = []
    for each in labels:
        row = subject.row()
        if each is not None and row:
            row = [torch.full_like(row[0], each)]
        points = lattice(
            subject.program, *row, side=side, within=asked.within, codes=subject.in_place_of_prior
        )
        tiles.append(subject.decode(points, label=each))
    title = _title(subject, f"{side} × {side} {subject.ticked_by}")
    if len(tiles) == 1:
        figure = plots.image_grid(tiles[0], side, title)
    else:
        sheets = torch.stack([_tile(images, side) for images in tiles])
        across = math.ceil(len(sheets) / 2)
        figure = plots.image_grid(sheets, across, f"{title}, under each label in turn")
    options = {"side": side, "within": asked.within, "label": asked.label}
    return Found(pictures={"manifold.png": figure}, options=options)


def traverse(subject: Subject) -> Found:
    """Each coordinate of one datum's code at the quantiles of the prior, the others held."""
    asked = subject.asked
    along = ticks(
        subject.program,
        *subject.row(asked.datum),
        steps=_STEPS,
        within=asked.within,
        codes=subject.in_place_of_prior,
    )
    mean = subject.codes.mean
    effects = _effects(subject, along)
    order = torch.stack([effect.value for effect in effects]).argsort(descending=True)
    shown = order[:_MOST_ROWS].tolist()
    moved = traversal(mean[asked.datum], along.to(mean), shown)
    images = subject.decode(moved.flatten(0, 1), datum=asked.datum)
    names = [f"z[{j}]" for j in shown]
    title = _title(subject, f"each latent of test datum {asked.datum} moved, the strongest first")
    figure = plots.image_grid(images, _STEPS, title, names)
    numbers = {}
    for j in shown:
        numbers[f"change by z[{j}], pixels²"] = _value(effects[j])
    return Found(
        pictures={"traverse.png": figure},
        numbers=numbers,
        sentences=[
            f"a change is ‖E[x | z′] − E[x | z]‖² from the first to the last tick, over "
            f"{min(_MOVED, len(mean))} test data"
        ],
        options={"datum": asked.datum, "within": asked.within},
    )


def interpolate(subject: Subject) -> Found:
    """From one test datum to another: through pixels, along a line and along a great circle."""
    assert subject.asked.interpolate is not None
    first, second = subject.asked.interpolate
    share = torch.linspace(0, 1, _STEPS, device=subject.test.x.device)
    start, end = subject.codes.mean[[first, second]]
    x = subject.test.x
    rows = [straight(x[first], x[second], share)]
    rows.append(_between(subject, straight(start, end, share), first, second))
    words = ["pixels", "line"]
    if len(start) > 1:
        rows.append(_between(subject, great_circle(start, end, share), first, second))
        words.append("circle")
    title = _title(subject, f"from test datum {first} to {second}")
    figure = plots.image_grid(torch.cat(rows), _STEPS, title, words)
    cosine = torch.cosine_similarity(start, end, dim=0).clamp(-1, 1)
    numbers = {
        "distance of the codes": float((end - start).norm()),
        "angle between them, degrees": math.degrees(float(cosine.acos())),
    }
    options = {"data": [first, second]}
    return Found(pictures={"interpolate.png": figure}, numbers=numbers, options=options)


def walk(subject: Subject) -> Found:
    """A random walk that the prior's moments stay as they are under, decoded."""
    label = _label(subject)
    row = subject.row()
    if label is not None and row:
        row = [torch.full_like(row[0], label)]
    steps = random_walk(
        subject.program,
        *row,
        steps=_WALK,
        size=_STEP,
        codes=subject.in_place_of_prior,
        seed=subject.asked.seed,
    )
    title = _title(subject, f"a random walk of {_WALK} steps, row by row")
    figure = plots.image_grid(subject.decode(steps, label=label), 10, title)
    moved = steps.diff(dim=0).norm(dim=1)
    return Found(
        pictures={"walk.png": figure},
        numbers={"length of a step": _value(over_data(moved))},
        options={"seed": subject.asked.seed, "size": _STEP, "label": subject.asked.label},
    )


def neighbours(subject: Subject) -> Found:
    """The training data nearest to a test datum, by code and by pixels, and P@10 over all."""
    datum = subject.asked.neighbours
    assert datum is not None
    train, test = subject.train, subject.test
    k = min(_NEIGHBOURS, len(train))
    query = test.x[datum : datum + 1]
    by_code = nearest(subject.codes.mean[datum : datum + 1], subject.train_codes, k).places[0]
    by_pixels = nearest(query, train.x, k).places[0]
    images = torch.cat([query, train.x[by_code], query, train.x[by_pixels]])
    title = _title(subject, f"test datum {datum} and the training data nearest to it")
    figure = plots.image_grid(images, k + 1, title, ["by code", "by pixels"])
    options = {"datum": datum, "limit": subject.asked.limit}
    if subject.labels is None or train.y is None:
        return Found(
            pictures={"neighbours.png": figure},
            sentences=["the data have no labels, by which the neighbours could be judged"],
            options=options,
        )
    found = _retrieval(subject, k)
    numbers = {f"precision at {k}, {name}": _value(part) for name, part in found.parts.items()}
    return Found(
        pictures={"neighbours.png": figure},
        numbers=numbers,
        sentences=found.verdict.sentences,
        options=options,
    )


def overlapping(subject: Subject) -> Found:
    """From one posterior's mean to another's, and the error where posteriors overlap."""
    assert subject.asked.overlap is not None
    first, second = subject.asked.overlap
    pair = [first, second]
    codes = subject.codes
    share = torch.linspace(0, 1, _STEPS, device=codes.mean.device)
    line = straight(codes.mean[first], codes.mean[second], share)
    x = subject.test.x
    rows = [straight(x[first], x[second], share), _between(subject, line, first, second)]
    title = _title(subject, f"from test datum {first} to {second}: pixels, and codes")
    pictures = {"overlap.png": plots.image_grid(torch.cat(rows), _STEPS, title, ["pixels", "μ"])}
    if is_autoencoder(subject.program):
        said = "the codes of an autoencoder have no width, so that nothing overlaps"
        return Found(pictures=pictures, sentences=[said], options={"data": pair})
    tril = codes.tril
    if tril is not None:
        tril = tril[pair]
    assert codes.sd is not None
    both = Codes(codes.mean[pair], codes.sd[pair], tril)
    some = slice(0, _OVERLAPPING)
    labels = None
    if subject.labels is not None and not subject.context:
        labels = subject.labels[some]
    context = [c[some] for c in subject.context]
    found = overlap(subject.program, x[some], *context, labels=labels)
    numbers: dict[str, float | tuple[float, float]] = {
        f"overlap of {first} and {second}": float(affinity(both)[0, 1]),
        "correlation of overlap and error": found.correlation,
        "mean reconstruction error": _value(over_data(found.errors)),
    }
    if codes.mean.shape[1] == 2:
        errors = reconstruction_error(subject.program, x, *subject.context)
        title = _title(subject, f"test data; the line goes from {first} to {second}")
        pictures["overlap_map.png"] = error_map(codes.mean, errors, line, title)
    return Found(
        pictures=pictures,
        numbers=numbers,
        sentences=found.verdict.sentences,
        options={"data": pair, "limit": subject.asked.limit},
    )


def attributes(subject: Subject) -> Found:
    """A grid of one datum's code with less and more of two attributes, and what they change."""
    assert subject.asked.attributes is not None
    names = subject.asked.attributes
    columns = [_attribute(subject, name) for name in names]
    mean = subject.codes.mean
    found = attribute_directions(mean, columns[0], columns[1])
    datum = subject.asked.datum
    steps = 7
    images = subject.decode(found.grid(mean[datum], steps, reach=1.5), datum=datum)
    across, up = literal(names[0]), literal(names[1])
    title = _title(subject, f"test datum {datum}: {across} to the right, {up} upwards")
    figure = plots.image_grid(images, steps, title)
    own, plain = found.cosines
    numbers: dict[str, float | tuple[float, float]] = {
        "cosine of the directions": own,
        "cosine of the plain directions": plain,
    }
    if all(name in _MEASURES for name in names):
        numbers |= _changes(subject, found, names)
    return Found(
        pictures={"attributes.png": figure},
        numbers=numbers,
        sentences=found.verdict.sentences,
        options={"attributes": list(names), "datum": datum, "limit": subject.asked.limit},
    )


def drawn_latents(subject: Subject) -> Found:
    """The codes of the test data, coloured by label, with the ellipses of q(z | x)."""
    codes = subject.codes
    covariance = None
    numbers: dict[str, float | tuple[float, float]] = {}
    spread = codes.mean.std(0)
    if codes.sd is not None:
        covariance = codes.covariance
        for j in range(codes.mean.shape[1]):
            numbers[f"sd of the means of z[{j}]"] = float(spread[j])
            numbers[f"mean sd of q(z[{j}] | x)"] = _value(over_data(codes.sd[:, j]))
    figure = latents(
        codes.mean,
        covariance,
        subject.labels,
        subject.fitted.class_names,
        _title(subject, "codes of test data"),
    )
    options = {"limit": subject.asked.limit}
    return Found(pictures={"latents.png": figure}, numbers=numbers, options=options)


def aggregate(subject: Subject) -> Found:
    """Draws of the aggregate posterior beside those of the prior, and their distance."""
    seed = subject.asked.seed
    drawn = aggregate_draws(
        subject.program, subject.test.x, *subject.context, draws=_DRAWS, seed=seed
    )
    if is_autoencoder(subject.program):
        raise ValueError(
            "expected a run with a prior for --aggregate, got an autoencoder, which has none; "
            "leave it out"
        )
    rows = torch.arange(_DRAWS) % len(subject.test)
    context = [c[rows] for c in subject.context]
    torch.manual_seed(seed)
    sites = simulate_sites(subject.program, _DRAWS, *context)
    (of_prior,) = [site["value"] for name, site in sites.items() if name != "x"]
    distance = energy_distance(drawn, of_prior)
    title = _title(subject, "z from E q(z | x) and from p(z)")
    samples = {"aggregate posterior": drawn, "prior": of_prior}
    pictures = {"aggregate.png": plots.points(samples, title)}
    if len(subject.fitted.data.shape) == 3 and not subject.context:
        decoded = torch.cat([subject.decode(drawn[:_SHOWN]), subject.decode(of_prior[:_SHOWN])])
        words = ["q(z)"] * 2 + ["p(z)"] * 2
        title = _title(subject, "decoded draws of the aggregate posterior, and of the prior")
        pictures["aggregate_decoded.png"] = plots.image_grid(decoded, _SHOWN // 2, title, words)
    return Found(
        pictures=pictures,
        numbers={"energy distance of both, squared": _value(distance)},
        options={"seed": seed, "draws": _DRAWS, "limit": subject.asked.limit},
    )


TAKEN: Mapping[str, Callable[[Subject], Found]] = {
    "manifold": manifold,
    "traverse": traverse,
    "interpolate": interpolate,
    "walk": walk,
    "neighbours": neighbours,
    "overlap": overlapping,
    "attributes": attributes,
    "impute": impute,
    "anomaly": anomaly,
    "latents": drawn_latents,
    "aggregate": aggregate,
    "over_epochs": over_epochs,
}


def expect_answers(subject: Subject) -> None:
    """Raises ValueError, before any look is taken, if a name, a class or a file is not there.

    Args:
        subject: The run, and what it is asked for.
    """
    asked = subject.asked
    _label(subject)
    if asked.anomaly:
        usual_and_novel(subject)
    for name in asked.attributes or ():
        _attribute(subject, name)
    if asked.over_epochs:
        epochs_kept(subject)


def _title(subject: Subject, words: str) -> str:
    return f"{literal(subject.fitted.name)}: {words}"


def _classes(subject: Subject) -> int:
    """The number of labels that the program is conditioned on; 0 if it is on none."""
    condition = subject.fitted.condition
    if condition is None:
        return 0
    return condition.classes or 0


def _label(subject: Subject) -> int | None:
    """The number of the label that codes are decoded under; None for no single one.

    Raises:
        ValueError: If the program has no labels, or not this one.
    """
    label = subject.asked.label
    if label is None:
        return None
    classes = _classes(subject)
    if not classes:
        raise ValueError(
            "expected a run conditioned on labels for --label, got "
            f"{subject.fitted.config.model} on {subject.fitted.data_name}; leave it out"
        )
    names = subject.fitted.class_names or tuple(map(str, range(classes)))
    if label in names:
        return names.index(label)
    raise ValueError(f"unknown --label {label!r}; {nearest_name(label, names)}")


def _tile(images: Tensor, side: int) -> Tensor:
    """A square of images (side², C, H, W) as one image (C, side H, side W)."""
    rows = images.unflatten(0, (side, side)).permute(2, 0, 3, 1, 4)
    return rows.flatten(3, 4).flatten(1, 2)


def _effects(subject: Subject, along: Tensor) -> list[Estimate]:
    """The squared change of what is decoded from the first tick to the last, by coordinate."""
    some = slice(0, _MOVED)
    mean = subject.codes.mean[some]
    context = [c[some] for c in subject.context]
    found = []
    for j in range(mean.shape[1]):
        ends = []
        for tick in (along[0, j], along[-1, j]):
            z = mean.clone()
            z[:, j] = tick
            ends.append(_decoded(subject, z, context))
        change = (ends[1] - ends[0]).flatten(1)
        found.append(over_data(change.square().sum(1)))
    return found


def _decoded(subject: Subject, z: Tensor, context: list[Tensor]) -> Tensor:
    """E[x | z], each under its own context."""
    from ppl_gen.inference import decode

    return decode(subject.program, z, *context)


def _between(subject: Subject, z: Tensor, first: int, second: int) -> Tensor:
    """E[x | z] on the way from one test datum to another, under the context of the nearer."""
    nearer = torch.where(torch.arange(len(z)) < len(z) / 2, first, second)
    return _decoded(subject, z, [c[nearer.to(c.device)] for c in subject.context])


def _retrieval(subject: Subject, k: int) -> Retrieval:
    """P@k of all test data among the training data; those without a label are left out."""
    parts = []
    for split, codes in ((subject.test, subject.codes.mean), (subject.train, subject.train_codes)):
        assert split.y is not None
        known = split.y >= 0
        parts.append(Labelled(split.x[known], codes[known], split.y[known]))
    return retrieval(parts[0], parts[1], k)


def _attribute(subject: Subject, name: str) -> Tensor:
    """An attribute of the test data, (N,): measured on their pixels, or one of their own.

    Raises:
        ValueError: If there is none of that name.
    """
    if name in _MEASURES:
        return _MEASURES[name](subject.test.stored)  # grey, where pixels were binarised by a draw
    known = getattr(subject.fitted.data, "attribute_names", ())
    y = subject.test.y
    if name in known and y is not None and y.dim() == 2:
        return y[:, known.index(name)]
    raise ValueError(
        f"no attribute named {name!r} for --attributes; {nearest_name(name, [*_MEASURES, *known])}"
    )


def _changes(
    subject: Subject, found: Directions, names: tuple[str, str]
) -> dict[str, tuple[float, float]]:
    """What going from little to much of each attribute changes in both measures."""
    some = slice(0, _MOVED)
    effects = found.effects(
        subject.program,
        subject.codes.mean[some],
        (_MEASURES[names[0]], _MEASURES[names[1]]),
        *[c[some] for c in subject.context],
    )
    numbers = {}
    for said, effect in effects.items():
        measured, _, direction = said.split()
        words = {"first": names[0], "second": names[1]}
        name = f"change of {words[measured]} along {words[direction]}"
        numbers[name] = _value(over_data(effect.value))
    return numbers


def _value(estimate: Estimate) -> tuple[float, float]:
    return float(estimate.value), float(estimate.standard_error)
