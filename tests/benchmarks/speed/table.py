"""The table of all contests and sweeps: printed, as JSON, as a picture."""

from __future__ import annotations

__all__ = ["Table"]

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table as Grid

from ppl_gen.plots.style import EXACT, GUIDE, MCMC, literal, panels
from speed.contest import Contest, Score
from speed.sweeps import Curve, Sweep

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_COLUMNS = ("time", "per", "× first", "first turn", "memory", "of matmul")


@dataclass(kw_only=True)
class Table:
    """What was measured.

    Attributes:
        about: What figures depend on.
        rows: The contests held, and their scores, by name of the row.
        sweeps: The sweeps followed, and their curves.
    """

    about: dict[str, Any]
    rows: dict[str, tuple[Contest, Mapping[str, Score]]] = field(default_factory=dict)
    sweeps: dict[str, tuple[Sweep, Mapping[str, Curve]]] = field(default_factory=dict)

    def print_row(self, name: str, console: Console) -> None:
        """Prints the contestants of a row."""
        contest, scores = self.rows[name]
        grid = Grid(title=f"{name}: {contest.what}", title_justify="left")
        grid.add_column("")
        for column in _COLUMNS:
            grid.add_column(column, justify="right")
        if any(score.note for score in scores.values()):
            grid.add_column("remarks")
        for who, score in scores.items():
            grid.add_row(
                who,
                _seconds(score.seconds),
                contest.unit,
                _number(score.ratio, "{:.2f}"),
                _seconds(score.first),
                _number(score.peak, "{:.1f} MB", 1e-6),
                _number(score.rate, "{:.0f} %", 100),
                score.note,
            )
        console.print(grid)

    def print_sweep(self, name: str, console: Console) -> None:
        """Prints how the contestants of a sweep grow."""
        sweep, curves = self.sweeps[name]
        for who, curve in curves.items():
            pairs = zip(curve.sizes, curve.seconds, strict=True)
            said = ", ".join([f"{size}: {_seconds(seconds)}" for size, seconds in pairs])
            console.print(
                f"{sweep.of}, {who}: {sweep.over} {said}; exponent {curve.exponent:.2f}",
                soft_wrap=True,
            )

    def as_json(self) -> str:
        """All of it, in seconds, bytes, and shares of one."""
        rows = []
        for name, (contest, scores) in self.rows.items():
            for who, score in scores.items():
                known = {"row": name, "what": contest.what, "unit": contest.unit}
                rows.append({**known, "contestant": who, **dataclasses.asdict(score)})
        sweeps = []
        for name, (sweep, curves) in self.sweeps.items():
            for who, curve in curves.items():
                known = {"sweep": name, "of": sweep.of, "over": sweep.over, "contestant": who}
                sweeps.append({**known, **dataclasses.asdict(curve)})
        whole = {"about": self.about, "rows": rows, "sweeps": sweeps}
        return json.dumps(whole, indent=1, ensure_ascii=False)

    def draw(self) -> Figure:
        """A panel of ratios for the rows, and one for each sweep."""
        contests = list(self.rows.values())
        count = (len(contests) > 0) + len(self.sweeps)
        height = max(3.0, 0.3 * len(contests))
        figure, all_axes = panels(
            count, width=5.0, height=height, margins=(1.5, 0.5), most_across=3
        )
        rest = list(all_axes)
        if contests:
            self._draw_rows(rest.pop(0))
        for axes, (sweep, curves) in zip(rest, self.sweeps.values(), strict=True):
            for who, curve in curves.items():
                label = literal(f"{who}, exponent {curve.exponent:.2f}")
                axes.loglog(curve.sizes, curve.seconds, "o-", label=label)
            axes.set_title(literal(sweep.of))
            axes.set_xlabel(literal(sweep.over))
            axes.set_ylabel("seconds")
            axes.legend(fontsize=7)
        return figure

    def _draw_rows(self, axes: Any) -> None:
        """The ratio of each contestant to the first of its row."""
        places: dict[str, list[tuple[float, int]]] = {"ppl-gen": [], "by hand": [], "others": []}
        for place, (_, scores) in enumerate(self.rows.values()):
            for who, score in scores.items():
                kind = "others"
                if who.startswith(("ppl-gen", "its ")):
                    kind = "ppl-gen"
                elif "by hand" in who:
                    kind = "by hand"
                if score.ratio is not None:
                    places[kind].append((score.ratio, place))
        colours = {"ppl-gen": GUIDE, "by hand": EXACT, "others": MCMC}
        for kind, found in places.items():
            ratios = [ratio for ratio, _ in found]
            heights = [place for _, place in found]
            axes.plot(ratios, heights, "o", color=colours[kind], label=kind, alpha=0.7)
        axes.axvline(1.0, color="0.7", zorder=0)
        axes.set_xscale("log")
        axes.set_yticks(range(len(self.rows)), [literal(name) for name in self.rows], fontsize=7)
        axes.invert_yaxis()
        axes.set_xlabel("time, × that of the first of the row")
        axes.legend(fontsize=7)

    def save(self, folder: Path) -> None:
        """Writes bench.json and bench.png."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bench.json").write_text(self.as_json(), encoding="utf8")
        self.draw().savefig(folder / "bench.png")


def _seconds(value: float | None) -> str:
    """Seconds, in the unit that suits them."""
    if value is None:
        return ""
    for unit, name in _UNITS:
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:.1g} s"


def _number(value: float | None, form: str, unit: float = 1.0) -> str:
    if value is None:
        return ""
    return form.format(value * unit)
