"""What a sampler learns while it warms up: step size, scale of the coordinates, length of the
trajectory.
"""

from __future__ import annotations

__all__ = ["DualAveraging", "Scales", "TrajectoryLength", "halton", "windows"]

import math

import torch
from torch import Tensor


class DualAveraging:
    """Step sizes ε that bring acceptance to a target δ: log εₜ₊₁ = μ − √t / γ · H̄ₜ with H̄ₜ the
    mean of δ − αₜ.

    Args:
        step: The first ε, of any shape; each entry is adapted on its own.
        target: δ.

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
        self._error, self._count = torch.zeros_like(self.step), 0

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
        """The step sizes to keep."""
        return self._log_average.exp()


class Scales:
    """The standard deviation of each coordinate, pooled over chains and over the draws of a window,
    shrunk a little to 10⁻³.
    """

    def __init__(self) -> None:
        self.count, self._mean, self._squares = 0, torch.zeros(()), torch.zeros(())

    def see(self, q: Tensor) -> None:
        """Takes the state (C, B, D) of all chains."""
        q = q.double()
        new = self.count + q.shape[0]
        shift = q.mean(0) - self._mean
        within = (q - q.mean(0)).square().sum(0)
        self._squares = self._squares + within + shift.square() * (self.count * q.shape[0] / new)
        self._mean = self._mean + shift * (q.shape[0] / new)
        self.count = new

    def deviation(self) -> Tensor:
        """(B, D)."""
        n = self.count
        variance = self._squares / max(n - 1, 1)
        return ((n * variance + 5 * 1e-3) / (n + 5)).sqrt()


class TrajectoryLength:
    """The length τ of trajectories, raised along ∂/∂log τ of the change in the estimator of the
    trajectory's covariance.

    ChEES = ¼ E[(‖q′ − E q′‖² − ‖q − E q‖²)²]; its gradient by the chain rule through q′, whose
    derivative is the momentum.

    Args:
        length: The first τ, in units of the coordinates' standard deviations.
        adapts: Whether to change it.

    Reference:
        Hoffman, Radul and Sountsov (2021), An adaptive-MCMC scheme for setting trajectory lengths
        in HMC, eq. 6 and 7.
    """

    def __init__(self, length: float, adapts: bool) -> None:
        self.adapts, self._first = adapts, length
        self.restart()

    def restart(self) -> None:
        """Begins anew, since the units have changed: a length that was right in the old ones may be
        stuck in the new.
        """
        self.length = self._first
        self._square, self._count = 0.0, 0
        self._log_sum, self._kept = 0.0, 0

    def learn(self, gradient: float, time: float, least: float) -> None:
        """Takes the gradient with respect to time at the jittered time that was travelled; τ stays
        above `least`.
        """
        gradient *= time
        if not self.adapts or not math.isfinite(gradient) or gradient == 0.0:
            return
        self._count += 1
        self._square = 0.95 * self._square + 0.05 * gradient**2
        rate = 0.05 if self._count < 100 else 0.025
        move = rate * gradient / (math.sqrt(self._square / (1 - 0.95**self._count)) + 1e-20)
        self.length = max(self.length * math.exp(move), least)

    def keep(self) -> None:
        """Lets the present length take part in the average."""
        self._log_sum, self._kept = self._log_sum + math.log(self.length), self._kept + 1

    @property
    def average(self) -> float:
        return math.exp(self._log_sum / self._kept) if self._kept else self.length


def halton(count: int, base: int = 2) -> list[float]:
    """The van der Corput sequence in (0, 1): jitter that covers the interval evenly."""
    values = []
    for i in range(1, count + 1):
        value, scale = 0.0, 1.0
        while i:
            scale /= base
            i, digit = divmod(i, base)
            value += scale * digit
        values.append(value)
    return values


def windows(warmup: int) -> tuple[int, list[int]]:
    """The end of the first phase, in which each chain finds its way alone, and the iterations at
    which scales are renewed.
    """
    alone = warmup // 6
    ends, size = [], max(warmup // 12, 1)
    at = alone
    while at + size <= warmup - warmup // 4:
        at += size
        ends.append(at)
        size = int(size * 1.6) + 1
    return alone, ends
