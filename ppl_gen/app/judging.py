"""A run judged in nats: evidence with its error, and on demand how good that number, the guide and the latents are."""

from __future__ import annotations

__all__ = ["Asked", "evaluate"]

import json
import math
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from torch import Tensor

from ppl_gen import plots_evidence
from ppl_gen.app.build import context
from ppl_gen.app.runs import Run, write_atomically
from ppl_gen.data import Split
from ppl_gen.inference import Estimate, ais, bdmc, collapse, elbo, gaps, log_evidence

_COLLAPSE = 1000  # data whose posteriors are looked at; time grows with their square


@dataclass(frozen=True)
class Asked:
    """What `ppl-gen evaluate` was asked for."""

    particles: int = 1000
    limit: int | None = None
    ais: bool = False
    bdmc: bool = False
    gaps: bool = False
    collapse: bool = False
    chains: int = 16
    temperatures: int = 1000
    subset: int = 100
    seed: int = 0

    def expect_counts(self) -> None:
        """Says when a number is too small.

        Raises:
            ValueError: Then.
        """
        for name in ("particles", "limit", "chains", "temperatures", "subset"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"expected --{name} of at least 1, got {value}")


@dataclass
class _Judged:
    """What was found: for the file, for the table, and in words."""

    result: dict[str, Any]
    rows: list[tuple[str, str]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)

    def row(self, name: str, estimate: Estimate) -> None:
        mean = estimate if estimate.value.dim() == 0 else estimate.mean()
        error = float(mean.standard_error)
        shown = "unknown (one draw)" if math.isnan(error) else f"{error:.4f}"
        self.rows.append((name, f"{float(mean.value):.3f} ± {shown}"))


class _Subject:
    """The program of a run with its test data, and the first of them, which the costly methods are run on."""

    def __init__(self, run: Run, program: Any, test: Split, asked: Asked, console: Console) -> None:
        self.run, self.program, self.asked = run, program, asked
        self.x, self.given = test.x, context(program, test)
        self.progress = console.is_terminal
        self.x_first, *self.given_first = self._head(asked.subset)
        self.condition = " given the label" if self.given else ""
        self.annealed: Estimate | None = None

    def _head(self, count: int) -> list[Tensor]:
        return [t[:count] for t in (self.x, *self.given)]

    @property
    def annealing(self) -> dict[str, Any]:
        """The options of AIS and BDMC."""
        asked = self.asked
        return {
            "guide": self.program.guide,
            "chains": asked.chains,
            "temperatures": asked.temperatures,
            "seed": asked.seed,
            "progress": self.progress,
        }

    def anneal(self) -> Estimate:
        """AIS of the first data, once."""
        if self.annealed is None:
            self.annealed = ais(self.program, self.x_first, *self.given_first, **self.annealing)
        return self.annealed

    def save(self, judged: _Judged, name: str, figure: Any) -> None:
        figure.savefig(self.run.folder / name)
        judged.pictures.append(str(self.run.folder / name))


def evaluate(run: Run, program: Any, test: Split, asked: Asked, epoch: int, console: Console) -> dict[str, Any]:
    """Scores a test set, writes evaluation.json, draws pictures and prints the table.

    Raises:
        ValueError: If the evidence is not finite.
    """
    subject = _Subject(run, program, test, asked, console)
    judged = _weighted(subject, epoch)
    _write(run, judged)
    for wanted, judge in (
        (asked.ais, _annealed),
        (asked.bdmc, _sandwiched),
        (asked.gaps, _split),
        (asked.collapse, _looked_through),
    ):
        if wanted:
            judge(subject, judged)
            _write(run, judged)  # at once: what was found is not lost with what comes after
    table = Table("nats per datum", "average ± Monte Carlo standard error", title_justify="left")
    table.title = f"{run.config.model} on {run.config.data}, {len(test)} test data"
    for row in judged.rows:
        table.add_row(*row)
    console.print(table)
    for line in judged.words:
        console.print(line, soft_wrap=True)
    if judged.pictures:
        console.print("pictures: " + ", ".join(judged.pictures), soft_wrap=True)
    console.print(f"written to {run.folder / 'evaluation.json'}", soft_wrap=True)
    return judged.result


def _write(run: Run, judged: _Judged) -> None:
    text = json.dumps(judged.result, indent=2) + "\n"
    write_atomically(run.folder / "evaluation.json", lambda file: file.write(text.encode()))


def _weighted(subject: _Subject, epoch: int) -> _Judged:
    """Importance-weighted evidence and ELBO of all data."""
    asked, run = subject.asked, subject.run
    data, draws = (subject.x, *subject.given), min(asked.particles, 100)
    bound = elbo(subject.program, None, *data, particles=draws, seed=asked.seed).mean()
    each = log_evidence(
        subject.program, None, *data, particles=asked.particles, seed=asked.seed, progress=subject.progress
    )
    mean = each.mean()
    if not math.isfinite(float(mean.value)):
        raise ValueError(
            f"the log evidence of the run {run.folder} is {float(mean.value)}: its weights have run away; fit it anew"
        )
    limit = min(1 - 1 / math.log10(asked.particles), 0.7) if asked.particles > 1 else 0.7
    heavy = None if each.k_hat is None else float((each.k_hat > limit).double().mean())
    spread = float(mean.sampling_error) if len(subject.x) > 1 and mean.sampling_error is not None else None
    judged = _Judged(
        {
            "unit": "nats per datum",
            **_numbers("log_evidence", "standard_error", mean),
            "sampling_error": spread,
            **_numbers("elbo", "elbo_standard_error", bound),
            "elbo_particles": draws,
            "particles": asked.particles,
            "data": len(subject.x),
            "conditional": bool(subject.given),
            "binarize": run.config.binarize,
            "ess_smallest": None if mean.ess is None else float(mean.ess),
            "k_hat_limit": limit,
            "k_hat_above_limit": heavy,
            "seed": asked.seed,
            "epoch": epoch,
        }
    )
    judged.row(f"test log evidence{subject.condition}", mean)
    judged.row(f"test ELBO{subject.condition}", bound)
    judged.words.append(
        f"{asked.particles} particles, binarisation {run.config.binarize or 'none'}, likelihood {run.config.likelihood}; "
        f"smallest effective sample size {float(mean.ess or 0):.0f}; another test set of this size would move the average "
        f"by about {spread or float('nan'):.2f}"
    )
    if heavy:
        judged.words.append(
            f"Pareto k̂ is above {limit:.2f} for {heavy:.1%} of the data: their weights have heavy tails, and their evidence is "
            f"likely higher; raise --particles, or ask for --ais"
        )
    return judged


def _annealed(subject: _Subject, judged: _Judged) -> None:
    """AIS beside importance weights on the same data."""
    asked, data = subject.asked, (subject.x_first, *subject.given_first)
    annealed = subject.anneal()
    weighted = log_evidence(subject.program, None, *data, particles=asked.particles, seed=asked.seed)
    bound = elbo(subject.program, None, *data, particles=100, seed=asked.seed)
    first = f"first {len(subject.x_first)}"
    judged.row(f"AIS, {first}", annealed)
    judged.row(f"importance weights, {first}", weighted)
    judged.result["ais"] = {
        **_numbers("log_evidence", "standard_error", annealed.mean()),
        **_numbers("importance_weighted", "importance_weighted_standard_error", weighted.mean()),
        "data": len(subject.x_first),
        "chains": asked.chains,
        "temperatures": asked.temperatures,
        "ess_mean": None if annealed.ess is None else float(annealed.ess.mean()),
    }
    estimates = {"ELBO": bound, f"importance weights, {asked.particles}": weighted, "AIS": annealed}
    points = {name: _pair(estimate) for name, estimate in estimates.items()}
    subject.save(judged, "evidence.png", plots_evidence.bounds(points, title=f"log p(x) of the {first} test data"))


def _sandwiched(subject: _Subject, judged: _Judged) -> None:
    """BDMC on as many data drawn from the program."""
    sandwich = bdmc(subject.program, len(subject.x_first), *subject.given_first, **subject.annealing)
    of = f"{len(subject.x_first)} drawn"
    judged.row(f"BDMC below, {of}", sandwich.lower)
    judged.row(f"BDMC above, {of}", sandwich.upper)
    gap = sandwich.mean_gap
    judged.row(f"BDMC gap, {of}", gap)
    judged.result["bdmc"] = {
        **_numbers("lower", "lower_standard_error", sandwich.lower.mean()),
        **_numbers("upper", "upper_standard_error", sandwich.upper.mean()),
        **_numbers("gap", "gap_standard_error", gap),
        "data": len(subject.x_first),
        "chains": subject.asked.chains,
        "temperatures": subject.asked.temperatures,
    }
    judged.words.append(
        f"on data drawn from the model, AIS is too low by at most {gap} nats on average; on test data, which are like them as "
        f"far as the model is good, by about as much"
    )
    figure = plots_evidence.sandwich(sandwich.lower.value, sandwich.upper.value, title=f"BDMC of {of} data")
    subject.save(judged, "sandwich.png", figure)


def _split(subject: _Subject, judged: _Judged) -> None:
    """The inference gap and its parts, under the evidence of AIS."""
    found = gaps(
        subject.program,
        None,
        subject.x_first,
        *subject.given_first,
        evidence=subject.anneal(),
        seed=subject.asked.seed,
        progress=subject.progress,
    )
    for name, part in found.parts.items():
        judged.row(f"{name} gap" if "of it" not in name else name, part)
    judged.result["gaps"] = {
        **{name: _numbers("value", "standard_error", part.mean()) for name, part in found.parts.items()},
        "data": len(subject.x_first),
        "verdict": found.verdict,
    }
    judged.words.append(found.verdict)
    bars = {name: _pair(part) for name, part in found.parts.items()}
    subject.save(judged, "gaps.png", plots_evidence.gap_bars(bars, title="between the ELBO and the evidence"))


def _looked_through(subject: _Subject, judged: _Judged) -> None:
    """Which latents are in use."""
    data = subject._head(_COLLAPSE)
    found = collapse(subject.program, None, *data, seed=subject.asked.seed)
    judged.row("KL of guide from prior", found.rate)
    judged.row("mutual information of x and z", found.mutual_information)
    judged.result["collapse"] = {
        "latents": len(found.names),
        "dead": found.dead,
        "collapsed": found.collapsed,
        **_numbers("rate", "rate_standard_error", found.rate.mean()),
        **_numbers("mutual_information", "mutual_information_standard_error", found.mutual_information.mean()),
        "kl": found.kl.tolist(),
        "activity": found.activity.tolist(),
        "data": len(data[0]),
        "verdict": found.verdict,
    }
    judged.words += found.verdict
    figure = plots_evidence.collapse_panel(
        found.means, found.sds, found.kl, found.active, (found.prior_mean, found.prior_sd)
    )
    subject.save(judged, "collapse.png", figure)


def _pair(estimate: Estimate) -> tuple[float, float]:
    mean = estimate.mean()
    return float(mean.value), float(mean.standard_error)


def _numbers(name: str, error: str, estimate: Estimate) -> dict[str, float | None]:
    """Value and standard error under these names; None for an error that is not known."""
    known = not math.isnan(float(estimate.standard_error))
    return {name: float(estimate.value), error: float(estimate.standard_error) if known else None}
