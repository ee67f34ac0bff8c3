"""What draws of a program differ from held-out data in: which features, regions and classes."""

from __future__ import annotations

__all__ = ["Criticism", "Difference", "criticise"]

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ppl_gen import memory
from ppl_gen.arguments import expect_tensor
from ppl_gen.contexts import expect_context, expect_drawing, seeded
from ppl_gen.counts import expect_at_least
from ppl_gen.inference.expect import expect_finite, expect_level
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.result import Result
from ppl_gen.inference.samples.vectors import Features, as_vectors, expect_permutations
from ppl_gen.program import simulate
from ppl_gen.protocols import Program

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of data in the context of a program, or a function from points to their classes.
Labels = Tensor | Callable[[Tensor], Tensor]

_LEAST = 8  # data
_MOST_LABELS = 1000
_NAMED = 3  # differences of a group that a sentence names
_ROUNDING = 1e-9  # relative: equal sums may differ in their last digits
ALL = "all"


class Difference(NamedTuple):
    """One thing in which draws may differ from data.

    Attributes:
        group: "all", or "class 3": the data, and the draws, that it is about.
        feature: Its name: "x[2]", "rows 2-3, columns 4-5", "whole image"; empty of a share.
        kind: "mean", "spread" or "share" (of the class). Spreads are compared as squared distances
            from the average of data and draws together, which a shift of the mean moves as well.
        draws: The mean, the variance or the share of draws.
        data: That of data.
        z: The difference in standard errors of the permutations, positive where draws have more.
        p_value: How often one as large comes by chance, of this difference by itself.
        adjusted: How often any of those that are left is as large by chance, with the more striking
            ones set aside: the multiplicity counted.
    """

    group: str
    feature: str
    kind: str
    draws: float
    data: float
    z: float
    p_value: float
    adjusted: float

    def __repr__(self) -> str:
        what = " ".join(filter(None, [self.kind, self.feature]))
        return f"{self.group}: {what}, z = {self.z:+.1f}, p = {self.adjusted:.3g}"


@dataclass(frozen=True, eq=False, repr=False)
class Criticism(Result):
    """What draws of a program differ from held-out data in, the most striking difference first.

    Attributes:
        differences: All that were looked at, by their adjusted p-values and |z|.
        level: The confidence: with this probability nothing is named if nothing is wrong.
        data: N, how many data there were.
        draws: How many draws there were for each.
        permutations: How many permutations the p-values are of.

    Examples:
        >>> digits = data.load("digits")
        >>> found = criticise(models.gaussian(digits.train.x), digits.test.x, seed=0)
        >>> found.data, len(found.named) > 0  # a Gaussian does not draw digits
        (297, True)
    """

    differences: tuple[Difference, ...]
    level: float
    data: int
    draws: int
    permutations: int

    @property
    def found(self) -> tuple[Difference, ...]:
        """The differences whose adjusted p-value is at most 1 − level."""
        most = (1 - self.level) * (1 + _ROUNDING)
        return tuple([d for d in self.differences if d.adjusted <= most])

    @property
    def named(self) -> tuple[str, ...]:
        """The groups that differences were found in, as ("class 3", "all"), most striking first.

        All data together come last: a class that is off shows in them too.
        """
        groups = dict.fromkeys(difference.group for difference in self.found)
        return tuple(sorted(groups, key=ALL.__eq__))

    @property
    def verdict(self) -> Verdict:
        """A sentence for each group that differs, tagged by its name; or "alike", which passes."""
        found = self.found
        if not found:
            nearest = self.differences[0]
            sentence = (
                f"draws differ from data in none of {len(self.differences)} respects more than "
                f"chance has it; the nearest is {_said(nearest)}"
            )
            return Verdict((Finding("alike", sentence),), passes=True)
        findings = []
        for group in self.named:
            own = [difference for difference in found if difference.group == group]
            shifted = {difference.feature for difference in own if difference.kind == "mean"}
            # A spread about the average of draws and data says nothing new of what is shifted.
            new = [d for d in own if d.kind != "spread" or d.feature not in shifted]
            sentences = [_said(difference) for difference in new[:_NAMED]]
            if len(own) > len(sentences):
                sentences.append(f"{len(own) - len(sentences)} differences more")
            whose = "draws differ from data"
            if group != ALL:
                whose = f"draws of {group} differ from its data"
            findings.append(Finding(group, f"{whose}: {'; '.join(sentences)}"))
        return Verdict(tuple(findings), passes=False)

    @property
    def headline(self) -> str:
        """How many differences were found, among how many, and how."""
        return (
            f"{len(self.found)} of {len(self.differences)} differences of draws from {self.data} "
            f"data found, by {self.permutations} permutations"
        )

    def table(self) -> pandas.DataFrame:
        """A row for each group: differences looked at and found, and the most striking of them."""
        import pandas

        found = set(self.found)
        rows = {}
        for group in dict.fromkeys(difference.group for difference in self.differences):
            own = [difference for difference in self.differences if difference.group == group]
            rows[group] = {
                "compared": len(own),
                "found": len(found.intersection(own)),
                "most striking": " ".join([own[0].kind, own[0].feature]).strip(),
                "draws": own[0].draws,
                "data": own[0].data,
                "z": own[0].z,
                "p": own[0].adjusted,
            }
        return pandas.DataFrame.from_dict(rows, orient="index")

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each difference, the most striking first."""
        import pandas

        return pandas.DataFrame(list(self.differences), columns=Difference._fields)

    def plot(self, title: str = "", ax: Axes | None = None) -> Figure:
        """z of every feature in every group, see `ppl_gen.plots.samples.criticism`.

        Args:
            title: Stands above.
            ax: Axes that the picture takes the place of; it is a figure of its own if left out.
        """
        from ppl_gen.plots.samples import criticism

        return criticism(self, title, ax=ax)


def _said(difference: Difference) -> str:
    """In words: "the mean of x[2] is 0.4 in draws, 0.1 in data (z = +4.0, p = 0.01)"."""
    what = f"the {difference.kind}"
    if difference.feature:
        what += f" of {difference.feature}"
    return (
        f"{what} is {difference.draws:.3g} in draws, {difference.data:.3g} in data "
        f"(z = {difference.z:+.1f}, p = {difference.adjusted:.2g})"
    )


def criticise(
    program: Program,
    x: Tensor,
    *context: Tensor,
    labels: Labels | None = None,
    features: Features | None = None,
    names: Sequence[str] | None = None,
    grid: int = 4,
    draws: int = 4,
    level: float = 0.95,
    permutations: int = 499,
    seed: int | None = None,
) -> Criticism:
    """z = Σᵢ eᵢ / √(Σᵢ Var eᵢ), with e = f(draws) − f(x), averaged over draws: in which f is x odd?

    For each datum xᵢ the program makes k draws under the same context. Under the null hypothesis,
    that the program is where the data come from, xᵢ could be any of the k + 1: permutations put one
    of them, at random, in its place. The statistics f are means, and squared distances from the
    mean, of features; of regions of images; each of all data and of each class; and, where a
    function labels the draws, how many there are of each class. p-values are those of the
    permutations, exact at any number of data: adjusted by the step-down max |z| of Westfall and
    Young, they name anything at all in at most 1 − level of programs that are right.

    Data have to be held out: what the program was fitted to looks closer to its draws, or farther,
    than it is.

    Args:
        program: Any program that draws data; in evaluation mode.
        x: Held-out data (N, *shape), at least 8.
        *context: What the program is conditioned on, each of length N; draws are under the same.
        labels: The class of each datum, Long (N,), where the program is conditioned on it, as a
            `CVAE` or `CGAN` is: a context of this kind is taken if labels are left out. Or a
            function from data (n, *shape) to their classes, Long (n,), that labels the draws of any
            program as well, fitted to other data: `classifier_features(train.x, train.y).predict`.
            −1 is no class.
        features: f, from (n, *shape) to (n, D); not fitted on x. If left out, images (N, C, H, W)
            are averaged over regions, and of anything else each entry is a feature.
        names: Of the D features, such as the columns of a table.
        grid: Into how many regions the height and the width of images are cut, at most.
        draws: k, the number of draws for each datum.
        level: The confidence of the verdict, for all differences together.
        permutations: P, at least 19 and 1/(1 − level) − 1.
        seed: Seeds draws and permutations and leaves the global generator as it was; None draws
            from the global generator.

    Returns:
        A `Criticism`: differences in order, a verdict that names groups and features, and a
        picture.

    Raises:
        ValueError: If there are fewer than 8 data, values are not finite, draws have another shape
            than x, labels are not of the program's context and no function, or are no classes,
            there are fewer or more names than features, nothing varies, or permutations are too few
            for the level.

    Examples:
        >>> right = toy.PPCA(torch.ones(3, 1), torch.zeros(3), 1.0)
        >>> wrong = toy.PPCA(torch.ones(3, 1), torch.tensor([0.0, 0.0, 2.0]), 1.0)
        >>> x = right.model(None, n=100)
        >>> found = [criticise(program, x, permutations=99, seed=0) for program in (right, wrong)]
        >>> [len(differences.named) for differences in found]
        [0, 1]

    Reference:
        Westfall and Young (1993), Resampling-based multiple testing, algorithm 2.8; Lloyd and
        Ghahramani (2015), Statistical model criticism using kernel two sample tests.
    """
    expect_at_least(1, grid=grid, draws=draws)
    expect_level(level)
    expect_permutations(permutations)
    _expect_enough(permutations, level)
    expect_drawing(program)
    expect_tensor("data", x)
    expect_finite((x, *context))
    if x.dim() < 1 or len(x) < _LEAST:
        raise ValueError(f"expected at least {_LEAST} data (N, *shape), got {tuple(x.shape)}")
    expect_context(program, context)
    labelling = _labelling(labels, x, context)
    with seeded(x.device, seed), torch.no_grad():
        drawn = _drawn(program, x, context, draws)
        classes = _classes(labelling, x, drawn)
        described = _described(x, drawn, features, names, grid)
        contrasts = _contrasts(described, classes, len(x), draws)
        z, null = _permuted(contrasts.centred, permutations)
    return Criticism(
        differences=_ordered(contrasts, z, null),
        level=level,
        data=len(x),
        draws=draws,
        permutations=permutations,
    )


def _expect_enough(permutations: int, level: float) -> None:
    """Raises ValueError if no p-value can be as small as the level demands."""
    least = math.ceil(1 / (1 - level) - _ROUNDING) - 1
    if permutations < least:
        raise ValueError(
            f"expected at least {least} permutations for a level of {level}, got {permutations}; "
            "raise permutations, or lower level"
        )


def _drawn(program: Program, x: Tensor, context: Sequence[Tensor], draws: int) -> Tensor:
    """k draws for each datum, (k N, *shape): all of the data once, then once more."""
    memory.expect_memory(
        f"{draws} draws of {len(x)} data",
        4 * x.element_size() * draws * x.numel(),
        "take fewer draws, or fewer data",
        x.device,
    )
    made = []
    for _ in range(draws):
        made.append(simulate(program, len(x), *context))
    drawn = torch.cat(made)
    if drawn.shape[1:] != x.shape[1:]:
        raise ValueError(
            f"expected data of the shape that the program draws, {tuple(drawn.shape[1:])}, got "
            f"{tuple(x.shape[1:])}; reshape them"
        )
    if not bool(drawn.isfinite().all()):
        raise ValueError(
            "expected a program whose draws are finite, got NaN or infinite values; see that it is "
            "fitted"
        )
    return drawn


def _labelling(labels: Labels | None, x: Tensor, context: Sequence[Tensor]) -> Labels | None:
    """Labels of data that are part of the context, or a function that labels anything; or none."""
    if labels is None:
        given = list(filter(_is_of_labels, context))
        if len(given) != 1:
            return None
        return given[0]
    if not torch.is_tensor(labels):
        if callable(labels):
            return labels
        raise ValueError(
            "expected labels as a tensor, or a function that labels data and draws, got "
            f"{type(labels).__name__}"
        )
    _expect_classes(labels, len(x))
    if not any(_equal(c, labels) for c in context):
        raise ValueError(
            "expected labels that the program is conditioned on, got others: nobody knows the "
            "classes of its draws; give a function that labels data and draws alike, "
            "labels=classifier_features(train.x, train.y).predict"
        )
    return labels


def _classes(labels: Labels | None, x: Tensor, drawn: Tensor) -> Tensor | None:
    """The class of each datum and draw, Long ((1 + k) N,); None where nobody asks for any."""
    if labels is None:
        return None
    if torch.is_tensor(labels):
        return labels.repeat(1 + len(drawn) // len(x))
    found = labels(torch.cat([x, drawn]))
    _expect_classes(found, len(x) + len(drawn))
    return found


def _is_of_labels(context: Tensor) -> bool:
    return context.dim() == 1 and not context.is_floating_point()


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool((one == other).all())


def _expect_classes(labels: Tensor, count: int) -> None:
    """Raises ValueError unless labels are whole numbers, one for each datum."""
    is_whole = torch.is_tensor(labels) and not (labels.is_floating_point() or labels.is_complex())
    if not is_whole or labels.shape != (count,):
        got = type(labels).__name__
        if torch.is_tensor(labels):
            got = f"{labels.dtype} {tuple(labels.shape)}"
        raise ValueError(f"expected a class for each datum, Long ({count},), got {got}")
    if len(labels.unique()) > _MOST_LABELS:
        raise ValueError(
            f"expected at most {_MOST_LABELS} classes, got {len(labels.unique())}; give labels "
            "that many data share"
        )


class _Described(NamedTuple):
    """Features of data and of draws.

    Attributes:
        values: Of all data, then of their first draws, and so on, ((1 + k) N, D).
        names: Of the D features.
    """

    values: Tensor
    names: list[str]


def _described(
    x: Tensor, drawn: Tensor, features: Features | None, names: Sequence[str] | None, grid: int
) -> _Described:
    """What the user asks for; regions of images; or entries."""
    shape = x.shape[1:]
    found: list[str] | None = None
    if features is None and len(shape) == 3:
        features, found = _regions(shape, grid)
    of_x, of_draws = as_vectors(x, drawn, features)
    values = torch.cat([of_x, of_draws])
    width = values.shape[1]
    if names is not None:
        found = list(names)
    if found is None and features is None:
        found = [f"x{_index(place, shape)}" for place in range(width)]
    if found is None:
        found = [f"feature {place}" for place in range(width)]
    if len(found) != width:
        raise ValueError(f"expected names of {width} features, got {len(found)}; name each")
    return _Described(values, found)


def _regions(shape: Sequence[int], grid: int) -> tuple[Features, list[str]]:
    """Averages over the whole image, and over a grid of regions, of each channel; their names."""
    channels, height, width = shape
    down = min(grid, height)
    across = min(grid, width)

    def averaged(x: Tensor) -> Tensor:
        pooled = functional.adaptive_avg_pool2d(x.double(), (down, across))
        return torch.cat([x.double().mean((2, 3)), pooled.flatten(1)], 1)

    names = []
    for channel in range(channels):
        names.append("the whole image" + _of_channel(channel, channels))
    for channel in range(channels):
        for row in range(down):
            for column in range(across):
                rows = _range("row", row, down, height)
                columns = _range("column", column, across, width)
                names.append(f"{rows}, {columns}" + _of_channel(channel, channels))
    return averaged, names


def _of_channel(channel: int, channels: int) -> str:
    if channels == 1:
        return ""
    return f", channel {channel}"


def _range(what: str, place: int, parts: int, size: int) -> str:
    """Which rows or columns the part is of, as adaptive pooling cuts them."""
    first = place * size // parts
    last = math.ceil((place + 1) * size / parts) - 1
    if first == last:
        return f"{what} {first}"
    return f"{what}s {first}-{last}"


def _index(place: int, shape: Sequence[int]) -> str:
    """A place in a flattened datum as its index, "[2]"; "" for a datum that is one number."""
    if not shape:
        return ""
    indices = torch.unravel_index(torch.tensor(place), tuple(shape))
    return str([int(i) for i in indices])


class _Contrasts(NamedTuple):
    """The statistics that are compared, each with what it is called.

    Attributes:
        labels: Group, feature and kind of each, H of them.
        centred: f of each datum and its draws, less their average, (N, 1 + k, H).
        draws: The average over draws of the group, (H,).
        data: The average over data of the group, (H,).
    """

    labels: list[tuple[str, str, str]]
    centred: Tensor
    draws: Tensor
    data: Tensor


def _contrasts(described: _Described, classes: Tensor | None, count: int, draws: int) -> _Contrasts:
    """Means and spreads of all features of all groups, and shares of classes; of what varies."""
    values = described.values
    everyone = torch.ones(len(values), dtype=torch.bool, device=values.device)
    groups = {ALL: everyone}
    if classes is not None:
        for label in classes.unique().tolist():
            if label >= 0:
                groups[f"class {label}"] = classes == label
    memory.expect_memory(
        f"{len(described.names)} features of {len(groups)} groups",
        4 * 8 * len(values) * values.shape[1] * len(groups),
        "take fewer data or draws, a coarser grid, or fewer features",
        values.device,
    )
    labels = []
    columns = []
    averages = []
    for group, is_in in groups.items():
        inside = is_in.double()[:, None]
        centred = (values - _average(values, inside)) * inside
        squares = centred.square()
        spread = (squares - _average(squares, inside)) * inside
        mean = _sides(values, inside, count)
        variance = _sides(squares, inside, count) - _sides(centred, inside, count).square()
        columns += [centred, spread]
        averages += [mean, variance]
        for kind in ("mean", "spread"):
            labels += [(group, feature, kind) for feature in described.names]
        if group != ALL:
            columns.append(inside)
            averages.append(_sides(inside, torch.ones_like(inside), count))
            labels.append((group, "", "share"))
    by_datum = torch.cat(columns, 1).unflatten(0, (1 + draws, count)).transpose(0, 1)
    centred = by_datum - by_datum.mean(1, keepdim=True)
    of_data, of_draws = torch.cat(averages, 1)
    rounding = _ROUNDING * by_datum.abs().amax((0, 1))
    varies = (centred.abs().amax((0, 1)) > rounding) & of_data.isfinite() & of_draws.isfinite()
    if not bool(varies.any()):
        raise ValueError(
            "expected features that vary, got none that differs in any draw; give others"
        )
    kept = varies.nonzero()[:, 0].tolist()
    return _Contrasts(
        labels=[labels[place] for place in kept],
        centred=centred[:, :, varies],
        draws=of_draws[varies],
        data=of_data[varies],
    )


def _average(values: Tensor, inside: Tensor) -> Tensor:
    """The average of values (M, D) over a group (M, 1), of data and draws together, (D,)."""
    return (values * inside).sum(0) / inside.sum()


def _sides(values: Tensor, inside: Tensor, count: int) -> Tensor:
    """The averages of values (M, D) over data and over draws of a group (M, 1), (2, D)."""
    of_data = _average(values[:count], inside[:count])
    of_draws = _average(values[count:], inside[count:])
    return torch.stack([of_data, of_draws])


def _permuted(centred: Tensor, permutations: int) -> tuple[Tensor, Tensor]:
    """z (H,), and after each permutation (P, H), of centred statistics (N, 1 + k, H).

    Whoever stands in the place of the datum, Σᵢ Var eᵢ is the same.
    """
    count, places = centred.shape[:2]
    variances = centred.square().mean(1)
    scale = variances.sum(0).sqrt()
    z = -centred[:, 0].sum(0) / scale
    flat = centred.flatten(0, 1)
    offsets = places * torch.arange(count, device=centred.device)
    chosen = torch.randint(places, (permutations, count), device=centred.device) + offsets
    found = []
    for part in chosen.split(memory.rows(memory.PERMUTED, count * places)):
        weights = centred.new_zeros(len(part), count * places)
        weights.scatter_(1, part, 1.0)
        found.append(-(weights @ flat) / scale)
    return z, torch.cat(found)


def _ordered(contrasts: _Contrasts, z: Tensor, null: Tensor) -> tuple[Difference, ...]:
    """All differences by |z|, with p-values by themselves and by the step-down largest |z|."""
    size = z.abs() * (1 - _ROUNDING)
    null = null.abs()
    count = 1 + len(null)
    alone = (1 + (null >= size).sum(0).double()) / count
    order = size.argsort(descending=True)
    # The largest of those from each place on, in the order of what was observed.
    from_behind = null[:, order.flip(0)]
    largest = from_behind.cummax(1).values.flip(1)
    is_reached = largest >= size[order]
    reached = (1 + is_reached.sum(0).double()) / count
    adjusted = torch.empty_like(reached)
    adjusted[order] = reached.cummax(0).values
    numbers = torch.stack([contrasts.draws, contrasts.data, z, alone, adjusted], 1).tolist()
    rows = [Difference(*label, *row) for label, row in zip(contrasts.labels, numbers, strict=True)]
    return tuple(rows[place] for place in order.tolist())
