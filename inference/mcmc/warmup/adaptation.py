"""What HMC learns in warm-up: step sizes, scales of the coordinates, lengths of trajectories."""

from __future__ import annotations

__all__ = ["DualAveraging", "Scales", "TrajectoryLength", "halton", "windows"]

import math

import torch
from torch import Tensor


class DualAveraging:
    """log εₜ₊₁ = μ − √t / γ · H̄ₜ: step sizes ε that bring acceptance to a target δ.

    H̄ₜ is the mean of δ − αₜ, α the acceptance probability. Each entry is adapted on its own, which
    `pyro.ops.dual_averaging`, made for one number, cannot do.

    Args:
        step: The first ε, of any shape.
        target: δ, between 0 and 1.

    Attributes:
        step: The step sizes to use next.

    Reference:
        Hoffman and Gelman (2014), The no-U-turn sampler, algorithm 5.
    """

    def __init__(self, step: Tensor, target: float) -> None:
        self.target = target
        self.restart(step)

    def restart(self, step: Tensor) -> None:
        """Forgets the past, and goes on from these step sizes."""
        self.step = step.double()
        self._log_average = self.step.log()
        self._mu = (2 * self.step).log()
        self._error = torch.zeros_like(self.step)
        self._count = 0

    def learn(self, acceptance: Tensor) -> None:
        """Takes one acceptance probability for each step size."""
        self._count += 1
        t = self._count
        self._error = self._error + (self.target - acceptance.double() - self._error) / (t + 10)
        log_step = (self._mu - math.sqrt(t) / 0.05 * self._error).clamp(-20, 20)
        self._log_average = self._log_average + t**-0.75 * (log_step - self._log_average)
        self.step = log_step.exp()

    @property
    def average(self) -> Tensor:
        """The step sizes to keep after warm-up."""
        return self._log_average.exp()


class Scales:
    """The standard deviation of each coordinate, over all chains and the iterations of a window.

    Its square, the variance, is shrunk a little to 10⁻³.

    Attributes:
        count: How many states were seen.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean = torch.zeros(())
        self._squares = torch.zeros(())

    def see(self, q: Tensor) -> None:
        """Takes the state (C, B, D) of all chains."""
        q = q.double()
        seen = self.count
        total = seen + q.shape[0]
        mean = q.mean(0)
        shift = mean - self._mean
        within = (q - mean).square().sum(0)
        between = shift.square() * (seen * q.shape[0] / total)
        self._squares = self._squares + within + between
        self._mean = self._mean + shift * (q.shape[0] / total)
        self.count = total

    def deviation(self) -> Tensor:
        """The standard deviations, (B, D)."""
        n = self.count
        variance = self._squares / max(n - 1, 1)
        return ((n * variance + 5 * 1e-3) / (n + 5)).sqrt()


class TrajectoryLength:
    """The length τ of trajectories, raised along ∂ChEES/∂log τ.

    ChEES = ¼ E[(‖q′ − E q′‖² − ‖q − E q‖²)²] is the change in the estimator of the trajectory's
    covariance; its gradient follows by the chain rule through q′, whose derivative is the momentum.

    Args:
        length: The first τ, in units of the coordinates' standard deviations.
        adapts: Whether to change it.

    Attributes:
        length: τ.

    Reference:
        Hoffman, Radul and Sountsov (2021), An adaptive-MCMC scheme for setting trajectory lengths
        in HMC, eq. 6 and 7.
    """

    def __init__(self, length: float, adapts: bool) -> None:
        self._adapts = adapts
        self._first = length
        self.restart()

    def restart(self) -> None:
        """Begins anew, since the units have changed.

        A length that was right in the old units may be stuck in the new.
        """
        self.length = self._first
        self._square = 0.0
        self._count = 0
        self._log_sum = 0.0
        self._kept = 0

    def learn(self, gradient: float, time: float, least: float) -> None:
        """Takes one step of Adam's kind, without momentum, in log τ.

        Args:
            gradient: The gradient of ChEES with respect to the travelled time.
            time: The time that was really travelled, jitter included.
            least: τ stays at or above it.
        """
        gradient *= time
        if not self._adapts or not math.isfinite(gradient) or gradient == 0.0:
            return
        self._count += 1
        self._square = 0.95 * self._square + 0.05 * gradient**2
        root = math.sqrt(self._square / (1 - 0.95**self._count))
        rate = 0.05
        if self._count >= 100:
            rate = 0.025
        move = rate * gradient / (root + 1e-20)
        self.length = max(self.length * math.exp(move), least)

    def keep(self) -> None:
        """Lets the present length take part in the average."""
        self._log_sum += math.log(self.length)
        self._kept += 1

    @property
    def average(self) -> float:
        """The length to keep after warm-up: the geometric mean since the last restart."""
        if not self._kept:
            return self.length
        return math.exp(self._log_sum / self._kept)


def halton(count: int, base: int = 2) -> list[float]:
    """The van der Corput sequence in (0, 1): jitter that covers the interval evenly.

    Args:
        count: How many numbers.
        base: The i-th number mirrors the digits of i in this base at the point.
    """
    values = []
    for i in range(1, count + 1):
        value = 0.0
        scale = 1.0
        while i:
            scale /= base
            i, digit = divmod(i, base)
            value += scale * digit
        values.append(value)
    return values


def windows(warmup: int) -> tuple[int, list[int]]:
    """How a warm-up is divided.

    Returns:
        The end of the first phase, in which each chain finds its way alone, and the iterations at
        which scales are renewed.
    """
    alone = warmup // 6
    size = max(warmup // 12, 1)
    last = warmup - warmup // 4
    ends = []
    end = alone + size
    while end <= last:
        ends.append(end)
        size = int(size * 1.6) + 1
        end += size
    return alone, ends
