"""When a fit stops, which of its epochs is kept, and whether an objective has settled."""

from __future__ import annotations

__all__ = ["Converged", "Patience", "gained", "last_tenth", "settled", "tenths"]

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ppl_gen.counts import expect_at_least, expect_number
from ppl_gen.inference.diagnostics import split_r_hat
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.fitting.loop import Record

if TYPE_CHECKING:
    import pandas

_FEWEST = 20  # steps or epochs, of which two tenths can be compared
_LEAST_GAIN = 0.01  # nats, below which nobody goes on

# Windows of iterates that are tried, between the shortest and this share of all.
_WINDOWS = 5
_LARGEST_SHARE = 0.95
# R̂ of the iterates in a window, below which they are taken to have settled.
_SETTLED = 1.1
# Blocks of a window, from whose averages the error of its average is estimated.
_BLOCKS = 8
# How often the iterates are looked at, in lengths of the shortest window.
_LOOKS = 4
# Probabilities of the middle of a posterior, and of the ends of one sd to either side of a normal.
_QUANTILES = (0.15865525, 0.5, 0.84134475)


class Patience:
    """Stops once `epochs` in a row have not raised a validation metric above its best by `gain`.

    With mₑ the metric of epoch e, an epoch is the best so far, b = e, where mₑ > m_b + gain; of a
    metric that is to fall, where mₑ < m_b − gain. The fit is over at the first epoch
    e ≥ b + epochs. A rule for `fit(..., stop=...)`, which keeps the weights of epoch b; in a loop
    of one's own:

        for record in iterate(step, batches, epochs=1000, validation=validation):
            if patience(record):
                break
            if patience.best == record.epoch:
                ...  # the weights are those of the best epoch so far

    The metric is of data held out of the training data: `kept, held_out = train.divided(0.1)`. The
    command holds them out of the training data alone, so that a test set cannot stop its fits. A
    score on data that have chosen the epoch is too good by an unknown amount: numbers of lectures
    and papers that stopped on test data are such.

    Args:
        epochs: How many epochs in a row may pass without a gain.
        metric: The name of the metric in `Record.metrics`.
        gain: The least rise that counts, in the unit of the metric (nats per datum).
        falls: Whether a lower metric is the better one, as an error is.

    Attributes:
        best: The best epoch so far; None before the first that has a number.
        is_over: Whether the fit is to stop.
        reason: Why, in words; empty before.

    Raises:
        ValueError: If epochs is below 1 or gain below 0; when it is called, if a record has no such
            metric, or is of an epoch that is not after the last one seen.

    Examples:
        >>> patience = Patience(2)
        >>> bounds = [-30.0, -28.0, -28.5, -29.0]
        >>> records = [Record(i, {"validation_elbo": b}, 1, 1.0) for i, b in enumerate(bounds, 1)]
        >>> [patience(record) for record in records], patience.best
        ([False, False, False, True], 2)

    Reference:
        Prechelt (1998), Early stopping - but when?
    """

    def __init__(
        self,
        epochs: int,
        *,
        metric: str = "validation_elbo",
        gain: float = 0.0,
        falls: bool = False,
    ) -> None:
        expect_at_least(1, epochs=epochs)
        expect_number(gain=gain)
        if not 0 <= gain < math.inf:
            raise ValueError(f"expected a finite gain of at least 0, got {gain}")
        self.epochs = epochs
        self.metric = metric
        self.gain = gain
        self.falls = falls
        self.best: int | None = None
        self.is_over = False
        self._highest = -math.inf
        self._last = 0

    def __call__(self, record: Record) -> bool:
        """Sees the record of the next epoch, and says whether the fit is to stop.

        Args:
            record: Of an epoch, with the metric.
        """
        if self.metric not in record.metrics:
            raise ValueError(
                f"expected the metric {self.metric!r} in each epoch, got "
                f"{', '.join(sorted(record.metrics))}; say fit(..., validation=Validation(...)), "
                "or name another metric"
            )
        if record.epoch <= self._last:
            raise ValueError(
                f"expected an epoch after {self._last}, which this rule has seen, got "
                f"{record.epoch}; make a new Patience for a new fit"
            )
        self._last = record.epoch
        value = record.metrics[self.metric]
        if self.falls:
            value = -value
        if value > self._highest + self.gain:
            self.best = record.epoch
            self._highest = value
        self.is_over = record.epoch - (self.best or 0) >= self.epochs
        return self.is_over

    @property
    def reason(self) -> str:
        if not self.is_over:
            return ""
        return (
            f"{self.epochs} epochs without a gain of {self.metric} above {self.gain:g}; the best "
            f"is epoch {self.best}"
        )

    def state_dict(self) -> dict[str, Any]:
        """What it has seen: numbers by name, for a fit that goes on elsewhere."""
        return {
            "best": self.best,
            "highest": self._highest,
            "last": self._last,
            "is_over": self.is_over,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where another rule was.

        Args:
            state: What its `state_dict()` gave.

        Raises:
            ValueError: If it is the state of something else.
        """
        own = self.state_dict()
        if state.keys() != own.keys():
            raise ValueError(
                f"expected {', '.join(own)} in the state of a Patience, got "
                f"{', '.join(map(str, state))}; give what state_dict() of one returned"
            )
        self.best = state["best"]
        self._highest = state["highest"]
        self._last = state["last"]
        self.is_over = state["is_over"]


class Converged:
    """Stops once halving the learning rate no longer moves the averaged guide.

    At a fixed learning rate ρ, iterates of stochastic gradients settle about a point that is off
    the optimum by an amount that falls with ρ, as their average is by less. So, in stages: iterates
    θ are kept, one for each epoch; they have settled where the split R̂ of every entry of θ is
    below 1.1 over one of five windows, from the shortest to 0.95 of all of the stage. The guide
    takes the average over the window of the smallest R̂, as soon as the standard error of what it
    says is below half the tolerance. With m and s the middle and half the width of its central 68 %
    intervals, site by site, the fit is over where

        max |m − m′| / s < tolerance  and  max |log s − log s′| < tolerance,

    m′ and s′ being those of the stage before, of twice the rate. Otherwise ρ is halved. What is
    left of an error in proportion to ρ is no more than this last move. A rule for `fit(...,
    stop=...)` and small models, all of whose data are one batch; it needs no validation, and the
    guide has the averaged parameters afterwards:

        guide = automatic(AutoNormal, model, *data)
        optimizer = torch.optim.Adam(guide.parameters(), 0.1)
        step = svi_step(model, optimizer, guide=guide)
        records = fit(step, [data], 50_000, stop=Converged(guide, optimizer))

    Where the epochs end first, the guide has the average of the last stage that came to an end.

    Args:
        guide: An automatic guide of Pyro's with `quantiles`, such as AutoNormal, all of whose
            parameters the optimiser has.
        optimizer: Its learning rates are halved from stage to stage.
        tolerance: What is taken for no move, in units of the posterior's standard deviations.
        window: The fewest iterates that are averaged.

    Attributes:
        best: The epoch at which the guide last took an average; None before the first.
        is_over: Whether the fit is to stop.
        reason: Why, in words; empty before.
        moves: How far each stage but the first has moved the guide, in standard deviations.
        modules: The guide.

    Raises:
        ValueError: If the guide has no quantiles or no parameters, the optimiser has none of its
            parameters, or a number is out of range.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2, hidden=[8])
        >>> guide = pyro.infer.autoguide.AutoNormal(lambda: pyro.sample("z", dist.Normal(0.0, 1.0)))
        >>> guide()["z"].shape
        torch.Size([])
        >>> optimizer = torch.optim.Adam(guide.parameters(), 0.1)
        >>> Converged(guide, optimizer, tolerance=0.05).is_over
        False

    Reference:
        Welandawe, Andersen, Vehtari and Huggins (2022), Robust, automated, and accurate black-box
        variational inference (FASO and RAABBVI), whose last rule, of predicted costs and gains, is
        not taken over; Dhaka et al. (2020), Robust, accurate stochastic optimization for
        variational inference, for R̂ of iterates.
    """

    def __init__(
        self,
        guide: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        tolerance: float = 0.05,
        window: int = 200,
    ) -> None:
        expect_at_least(2 * _BLOCKS, window=window)
        expect_number(tolerance=tolerance)
        if not 0 < tolerance < math.inf:
            raise ValueError(f"expected a finite tolerance above 0, got {tolerance}")
        quantiles = getattr(guide, "quantiles", None)
        if not callable(quantiles):
            raise ValueError(
                f"expected a guide with quantiles, such as AutoNormal, got a "
                f"{type(guide).__name__}; use Patience(...) with validation for others"
            )
        self._parameters = [p for p in guide.parameters() if p.requires_grad]
        held: set[int] = set()
        for group in optimizer.param_groups:
            held.update(map(id, group["params"]))
        missing = [p for p in self._parameters if id(p) not in held]
        if missing or not self._parameters:
            raise ValueError(
                f"expected an optimiser of all the guide's parameters, got one without "
                f"{len(missing)} of {len(self._parameters)}; make the guide by "
                "ppl_gen.autoguides.automatic(...), and give its .parameters()"
            )
        self.guide = guide
        self._quantiles = quantiles
        self.optimizer = optimizer
        self.tolerance = tolerance
        self.window = window
        self.modules = [guide]
        self.best: int | None = None
        self.is_over = False
        self.reason = ""
        self.moves: list[float] = []
        self._iterates: list[Tensor] = []
        self._previous: Tensor | None = None

    def __call__(self, record: Record) -> bool:
        """Takes the guide's parameters after an epoch, and says whether the fit is to stop.

        Args:
            record: Of the epoch.
        """
        self._iterates.append(self._vector())
        if len(self._iterates) % max(self.window // _LOOKS, 1) == 0:
            self._look(record.epoch)
        return self.is_over

    def _look(self, epoch: int) -> None:
        """Ends the stage where its iterates have settled and their average is known well enough."""
        settled = self._settled()
        if settled is None:
            return
        now = self._vector()
        blocks = [self._said_by(block.mean(0)) for block in settled.tensor_split(_BLOCKS)]
        said = self._said_by(settled.mean(0))
        moves = torch.stack([_moves(block, said) for block in blocks])
        spread = moves.square().mean(0).sqrt()
        error = float(spread.max()) / math.sqrt(_BLOCKS - 1)
        if not error < self.tolerance / 2:
            self._take(now)
            return
        self.best = epoch
        self._end_stage(said)

    def _end_stage(self, said: Tensor) -> None:
        """Compares the averaged guide with that of the stage before; halves the rate, or is over.

        Args:
            said: What the averaged guide says.
        """
        self._iterates = []
        previous = self._previous
        self._previous = said
        if previous is not None:
            self.moves.append(float(_moves(said, previous).abs().max()))
        if self.moves and self.moves[-1] < self.tolerance:
            self.is_over = True
            self.reason = (
                f"converged: halving the learning rate to {self._rate:.3g} moved no mean or log sd "
                f"of the averaged guide by more than {self.moves[-1]:.3g}, of a tolerance of "
                f"{self.tolerance:g} sd"
            )
            return
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr"] / 2

    @property
    def _rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def _settled(self) -> Tensor | None:
        """The iterates (W, P) of the window with the smallest R̂; None if it is not small."""
        count = len(self._iterates)
        largest = int(_LARGEST_SHARE * count)
        if largest < self.window:
            return None
        recent = torch.stack(self._iterates[count - largest :])
        best = math.inf
        chosen = None
        sizes = torch.linspace(self.window, largest, _WINDOWS).int()
        for size in sizes.tolist():
            # Of entries that do not move, NaN.
            by_entry = split_r_hat(recent[None, -size:])
            r_hat = float(by_entry.nan_to_num(1.0).max())
            if r_hat < best:
                best = r_hat
                chosen = recent[-size:]
        if best >= _SETTLED:
            return None
        return chosen

    def _said_by(self, parameters: Tensor) -> Tensor:
        """Of every latent, middle and half width, (2, K); the guide keeps the parameters."""
        self._take(parameters)
        middles = []
        halves = []
        for value in self._quantiles(list(_QUANTILES)).values():
            low, middle, high = value.double().reshape(3, -1)
            middles.append(middle)
            halves.append((high - low) / 2)
        return torch.stack([torch.cat(middles), torch.cat(halves)])

    def _vector(self) -> Tensor:
        """The guide's parameters, (P,)."""
        return nn.utils.parameters_to_vector(self._parameters).detach().clone()

    def _take(self, parameters: Tensor) -> None:
        """Puts parameters (P,) into the guide, where its tensors lie."""
        parts = parameters.split([p.numel() for p in self._parameters])
        with torch.no_grad():
            for own, part in zip(self._parameters, parts, strict=True):
                own.copy_(part.view_as(own))


def _moves(said: Tensor, before: Tensor) -> Tensor:
    """How far middles have moved, in half widths, and log half widths: (2K,).

    Args:
        said: Middles and half widths, (2, K).
        before: The same, of another guide.
    """
    middle, half = said
    middle_before, half_before = before
    return torch.cat([(middle - middle_before) / half, half.log() - half_before.log()])


def last_tenth(objective: Tensor) -> Estimate:
    """The objective over the last tenth of a fit, with the error of its average.

    Args:
        objective: At each step or epoch, (n,), in nats.
    """
    return _average(objective[-_tenth(objective) :])


def gained(objective: Tensor) -> Estimate | None:
    """What the last tenth of a fit is above the tenth before; None below 20 values.

    Args:
        objective: At each step or epoch, (n,), in nats.
    """
    if len(objective) < _FEWEST:
        return None
    tenth = _tenth(objective)
    before = objective[-2 * tenth : -tenth]
    return last_tenth(objective) - _average(before)


def settled(objective: Tensor, unit: str) -> Verdict:
    """Whether an objective has settled: "rising" or "settled"; nothing below 20 values.

    It is taken to rise where the last tenth has gained more than four standard errors, and more
    than a hundredth of a nat.

    Args:
        objective: At each step or epoch, (n,), in nats.
        unit: Of what there is one each: "steps".
    """
    gain = gained(objective)
    if gain is None:
        return Verdict(())
    value = float(gain.value)
    said = f"the last tenth of the {unit} has gained {gain} nats"
    if value > max(4 * float(gain.standard_error), _LEAST_GAIN):
        finding = Finding("rising", f"the objective still rises: {said}; raise {unit}")
        return Verdict((finding,), passes=False)
    return Verdict((Finding("settled", f"the objective has settled: {said}"),), passes=True)


def tenths(objective: Tensor) -> pandas.DataFrame:
    """The average of each tenth of a fit with its error, in nats.

    Args:
        objective: At each step or epoch, (n,), in nats.
    """
    import pandas

    rows = {}
    for number, part in enumerate(objective.tensor_split(10), start=1):
        if len(part):
            average = _average(part)
            rows[f"tenth {number}"] = {
                "objective": float(average.value),
                "standard error": float(average.standard_error),
            }
    return pandas.DataFrame.from_dict(rows, orient="index")


def _tenth(objective: Tensor) -> int:
    return max(1, len(objective) // 10)


def _average(values: Tensor) -> Estimate:
    """The average of successive values, its error from ten batches of them."""
    batches = [part.mean() for part in values.tensor_split(min(10, len(values)))]
    means = torch.stack(batches)
    error = torch.full_like(means[0], torch.nan)
    if len(means) > 1:
        error = means.std() / len(means) ** 0.5
    return Estimate(values.mean(), error)
