"""A rule that averages the iterates of a guide, and stops where their average no longer moves."""

from __future__ import annotations

__all__ = ["Converged"]

import math

import torch
from torch import Tensor, nn

from ppl_gen.counts import expect_at_least, expect_number
from ppl_gen.inference.fitting.loop import Record
from ppl_gen.inference.fitting.stopping.trend import LOOKS, settled_end

# Blocks of a window, from whose averages the error of its average is estimated.
_BLOCKS = 8
# Probabilities of the middle of a posterior, and of the ends of one sd to either side of a normal.
_QUANTILES = (0.15865525, 0.5, 0.84134475)


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
        if len(self._iterates) % (self.window // LOOKS) == 0:
            self._look(record.epoch)
        return self.is_over

    def _look(self, epoch: int) -> None:
        """Ends the stage where its iterates have settled and their average is known well enough."""
        settled = settled_end(torch.stack(self._iterates), self.window)
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
