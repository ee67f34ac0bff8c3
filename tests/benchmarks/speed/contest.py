"""A contest: several ways to do the same work, which take turns."""

from __future__ import annotations

__all__ = ["Contest", "Job", "NotInstalled", "Score", "hold", "installed"]

import importlib.util
import statistics
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ppl_gen.contexts import reason
from speed.machine import clock, flops_of, matmul_rate, peak_of


class NotInstalled(Exception):
    """A contestant needs a package that is not there."""


def installed(*names: str) -> None:
    """Raises NotInstalled unless all packages of these names can be imported."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise NotInstalled("not installed")


def _one(result: Any) -> float:
    return 1.0


def _nothing(result: Any) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a contestant does in one turn.

    Attributes:
        run: Does it.
        units: From what `run` returned to how much was done: steps, pairs, effective draws.
        share: From the same to the share of its time that counts: what prepares need not.
        note: From the same to what else is to be known of it.
    """

    run: Callable[[], Any]
    units: Callable[[Any], float] = _one
    share: Callable[[Any], float] = _one
    note: Callable[[Any], str] = _nothing


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Several ways to do the same work.

    Attributes:
        what: The sizes of the work.
        unit: What its time is counted by: "step".
        ways: Makes the job of each contestant, or raises NotInstalled. The first is the one that
            all are measured by.
        counted: The contestant whose FLOPs are counted, one that calls torch operation by
            operation; None if nobody's are.
        rounds: How often each has its turn, after a first one that is not counted.
    """

    what: str
    unit: str
    ways: Mapping[str, Callable[[], Job]]
    rounds: int
    counted: str | None = None


@dataclass(frozen=True, kw_only=True)
class Score:
    """How a contestant did.

    Attributes:
        seconds: Of a unit, the median over turns; None if it took no part.
        ratio: To the seconds of the first contestant, the median over rounds.
        first: Seconds until its first turn was over, all that it prepares included.
        peak: The most bytes that a turn holds beyond what was held before.
        rate: FLOPs per second as a share of the machine's rate of matrix products.
        note: What else is to be known: why it took no part, what it warned of.
    """

    seconds: float | None = None
    ratio: float | None = None
    first: float | None = None
    peak: int | None = None
    rate: float | None = None
    note: str = ""


@dataclass(kw_only=True)
class _Running:
    """A contestant that takes part.

    Attributes:
        job: What it does.
        first: Seconds of its first turn.
        said: What is to be known of it.
        taken: Seconds of a unit in each turn.
    """

    job: Job
    first: float
    said: str
    taken: list[float]

    def turn(self) -> None:
        """Has it do its job once, and notes the seconds."""
        begun = clock()
        result = self.job.run()
        seconds = (clock() - begun) * self.job.share(result)
        self.taken.append(seconds / self.job.units(result))


def hold(contest: Contest) -> dict[str, Score]:
    """Has the contestants take turns; a score for each, by name."""
    scores: dict[str, Score] = {}
    running: dict[str, _Running] = {}
    for who, make in contest.ways.items():
        try:
            running[who] = _begin(make)
        except NotInstalled as absent:
            scores[who] = Score(note=str(absent))
        except Exception as error:  # a rival that fails is a line of the table, not its end
            scores[who] = Score(note=f"failed: {reason(error)}")
    for _ in range(contest.rounds):
        for each in running.values():
            each.turn()
    speed, work = matmul_rate(), None
    if contest.counted in running:
        job = running[contest.counted].job
        flops, result = flops_of(job.run)
        work = flops / job.units(result)
    first = next(iter(contest.ways))
    for who, each in running.items():
        seconds = statistics.median(each.taken)
        ratio = None
        if first in running:
            pairs = zip(each.taken, running[first].taken, strict=True)
            ratio = statistics.median([own / other for own, other in pairs])
        rate = None
        if work is not None:
            rate = work / seconds / speed
        scores[who] = Score(
            seconds=seconds,
            ratio=ratio,
            first=each.first,
            peak=peak_of(each.job.run),
            rate=rate,
            note=each.said,
        )
    return {who: scores[who] for who in contest.ways}


def _begin(make: Callable[[], Job]) -> _Running:
    """Has a contestant made and do its job for a first time."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        begun = clock()
        job = make()
        result = job.run()
        first = clock() - begun
    notes = [job.note(result)]
    for warning in caught:
        if str(warning.filename).endswith(".py") and "engine" in str(warning.message):
            notes.append(str(warning.message))
    said = "; ".join(filter(None, dict.fromkeys(notes)))
    return _Running(job=job, first=first, said=said, taken=[])
