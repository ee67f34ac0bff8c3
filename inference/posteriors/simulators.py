"""The posterior of a simulator's parameters, learned from what it simulates, without a density."""

from __future__ import annotations

__all__ = ["Amortisation", "SimulatorProgram", "amortise"]

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import biject_to

from ppl_gen.contexts import evaluating, explained, forked, seeded
from ppl_gen.counts import expect_at_least
from ppl_gen.flows import coupling_flow
from ppl_gen.guides import Family, flow
from ppl_gen.inference.diagnosis.sbc import Calibration
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.expect import expect_counts, expect_rate
from ppl_gen.inference.findings import Verdict
from ppl_gen.inference.fitting.loop import fit
from ppl_gen.inference.fitting.stopping import Patience
from ppl_gen.inference.result import Result
from ppl_gen.program import per_datum, register
from ppl_gen.protocols import Distribution

if TYPE_CHECKING:
    import pandas

_HELD_OUT = 0.1  # of the pairs, that stop the fit
_METRIC = "held-out log q"
_LEAST_SCALE = 1e-6
_SPLINES: Family = partial(
    flow, make=partial(coupling_flow, transforms=2, hidden=(64, 64), spline_bins=8)
)


class SimulatorProgram(nn.Module):
    """θ ~ p(θ), x ~ simulator(θ), with the guide q(θ | x): a program of the latent "theta".

    Args:
        prior: p(θ), a distribution of vectors.
        simulator: From θ (*batch, D) to data (*batch, *shape), or to their distribution.
        encoder: q(θ | x).
    """

    def __init__(
        self, prior: Distribution, simulator: Callable[[Tensor], Any], encoder: nn.Module
    ) -> None:
        super().__init__()
        self._prior = prior
        self.simulator = simulator
        self.encoder = encoder

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        """θ ~ p(θ), x ~ simulator(θ).

        Args:
            x: Data (N, *shape) to be scored; None draws.
            n: The number of draws, where x is None.

        Raises:
            ValueError: If data are to be scored, and the simulator gives no distribution.
        """
        if x is not None:
            n = x.shape[0]
        with pyro.plate("data", n):
            theta = pyro.sample("theta", self._prior)
            drawn = self.simulator(theta)
            if isinstance(drawn, Distribution):
                return pyro.sample("x", per_datum(drawn, theta.dim() - 1), obs=x)
            if x is not None:
                raise ValueError(
                    "expected a simulator with a density, one that returns a distribution of "
                    f"pyro.distributions, got one that returns {type(drawn).__name__}: its data "
                    "cannot be scored; `amortise(...).calibration` judges its posterior without"
                )
            point = dist.Delta(drawn, event_dim=drawn.dim() - theta.dim() + 1)
            return pyro.sample("x", point)

    def guide(self, x: Tensor) -> Tensor:
        """θ ~ q(θ | x).

        Args:
            x: Data of shape (N, *shape).
        """
        register(self.encoder)
        with pyro.plate("data", x.shape[0]):
            return pyro.sample("theta", self.encoder(x))


def amortise(
    simulator: Callable[[Tensor], Any],
    prior: Distribution,
    *,
    summary: Callable[[Tensor], Tensor] | None = None,
    family: Family | None = None,
    hidden: tuple[int, ...] = (64, 64),
    simulations: int = 10_000,
    epochs: int = 60,
    patience: int = 6,
    rate: float = 2e-3,
    batch: int = 100,
    calibrations: int = 400,
    draws: int = 99,
    seed: int | None = None,
) -> Amortisation:
    """max over φ of E log q(θ | x; φ), θ ~ p(θ), x ~ simulator(θ): neural posterior estimation.

    The maximum is the posterior: E_x KL(p(θ | x) ‖ q(θ | x)) is what the objective lacks of it. No
    density of x is asked for, and q serves any x. It is judged by simulation-based calibration on
    pairs of its own. Where the simulator returns a distribution, `found.program` has a density.

    Args:
        simulator: From parameters θ (*batch, D) to data (*batch, *shape), drawn at random, or to a
            distribution of pyro.distributions of them.
        prior: p(θ), a distribution of vectors: `dist.Normal(0.0, 1.0).expand([D]).to_event(1)`.
        summary: From data (N, *shape) to what the network sees, (N, *shape′); the data themselves
            if left out. A posterior given a summary is that given the data only where it suffices.
        family: Of q on the unconstrained θ, as those of `ppl_gen.guides`; two layers of neural
            splines if left out.
        hidden: The widths of the network.
        simulations: How many pairs (θ, x) are simulated; a tenth is held out.
        epochs: The most passes over them.
        patience: How many passes may be made without a gain on what is held out.
        rate: Adam's learning rate.
        batch: Pairs of a step.
        calibrations: How many further pairs calibration takes, at least 20.
        draws: How many draws each truth is ranked among, at least 9.
        seed: Seeds all draws and leaves the global generator as it was; None draws from the global
            generator.

    Returns:
        An `Amortisation`, with `.posterior(x)`, `.program` and `.calibration`.

    Raises:
        ValueError: If a number is out of range, the prior is none of vectors or its support has no
            map to the whole line, or the simulator fails, gives no row for each θ or values that
            are not finite.

    Examples:
        >>> def simulator(theta):
        ...     return theta + 0.5 * torch.randn_like(theta)
        >>> prior = dist.Normal(torch.zeros(1), 1.0).to_event(1)
        >>> few = {"simulations": 300, "epochs": 2, "calibrations": 50, "hidden": (8,)}
        >>> found = amortise(simulator, prior, family=guides.diagonal, **few, seed=0)
        >>> type(found.posterior(torch.ones(1, 1))).__name__
        'TransformedDistribution'

    Reference:
        Papamakarios and Murray (2016), Fast ε-free inference of simulation models with Bayesian
        conditional density estimation; Greenberg, Nonnenmacher and Macke (2019), Automatic
        posterior transformation for likelihood-free inference.
    """
    expect_counts(epochs=epochs, patience=patience, batch=batch)
    expect_at_least(100, simulations=simulations)
    expect_at_least(20, calibrations=calibrations)
    expect_at_least(9, draws=draws)
    for width in hidden:
        expect_at_least(1, hidden=width)
    expect_rate(rate, usual=2e-3)
    _expect_prior(prior)
    began = time.perf_counter()
    with forked(torch.device("cpu"), 0):
        like = prior.sample()
    with seeded(like.device, seed):
        theta, x = _simulated(simulator, prior, simulations)
        encoder = _Encoder(prior, summary, family or _SPLINES, hidden, theta, x)
        first = int(_HELD_OUT * simulations)
        pairs = _Pairs(x[first:], encoder.unconstrained(theta[first:]), batch)
        held = _HeldOut(encoder, x[:first], encoder.unconstrained(theta[:first]))
        optimizer = torch.optim.Adam(encoder.parameters(), rate)

        def step(*batch: Tensor) -> dict[str, Tensor]:
            x, u = batch
            encoder.train()
            optimizer.zero_grad()
            log_q = encoder.on_the_line(x).log_prob(u).mean()
            (-log_q).backward()
            nn.utils.clip_grad_norm_(encoder.parameters(), 5.0)
            optimizer.step()
            return {"log q": log_q.detach()}

        rule = Patience(patience, metric=_METRIC)
        with torch.enable_grad():
            records = fit(step, pairs, epochs, progress=False, validation=held, stop=rule)
        scores = [record.metrics[_METRIC] for record in records]
        program = SimulatorProgram(prior, simulator, encoder)
        with evaluating(encoder):
            truth, x = _simulated(simulator, prior, calibrations)
            q = encoder(x)
            drawn = q(torch.Size([draws]))
            ranks = (drawn < truth).sum(0).cpu()
            gain = (q.log_prob(truth) - prior.log_prob(truth)).double()
    return Amortisation(
        program=program,
        calibration=Calibration({"theta": ranks}, draws),
        information=Estimate(gain.mean(), gain.std() / len(gain) ** 0.5),
        simulations=simulations,
        held_out=torch.tensor(scores, dtype=torch.float64),
        seconds=time.perf_counter() - began,
    )


def _expect_prior(prior: Any) -> None:
    """Raises ValueError unless the prior is one distribution of vectors, which can be mapped."""
    if not isinstance(prior, Distribution):
        raise ValueError(
            f"expected a prior of pyro.distributions, got {type(prior).__name__}; the parameters "
            "are one vector: dist.Normal(0.0, 1.0).expand([2]).to_event(1)"
        )
    if prior.batch_shape or len(prior.event_shape) != 1:
        raise ValueError(
            "expected a prior of one vector, of event shape (D,), got batch shape "
            f"{tuple(prior.batch_shape)} and event shape {tuple(prior.event_shape)}; say "
            ".expand([D]).to_event(1)"
        )
    with explained("a prior on a continuous support", "take a density, as Normal or Gamma"):
        biject_to(prior.support)


def _simulated(
    simulator: Callable[[Tensor], Any], prior: Distribution, n: int
) -> tuple[Tensor, Tensor]:
    """n pairs: θ (n, D) and x (n, *shape), finite and of floating point numbers."""
    with torch.no_grad():
        theta = prior.sample(torch.Size([n]))
        with explained("a simulator of parameters (n, D)", "run it by itself on prior.sample([n])"):
            x = simulator(theta)
            if isinstance(x, Distribution):
                x = x.sample()
    if not torch.is_tensor(x) or x.shape[:1] != (n,):
        shape = getattr(x, "shape", type(x).__name__)
        raise ValueError(
            f"expected a simulator that gives a tensor with a row for each of {n} parameters, got "
            f"{shape}; draw as many data as there are rows of theta"
        )
    if not bool(torch.isfinite(x).all()):
        bad = int((~torch.isfinite(x)).reshape(n, -1).any(1).sum())
        raise ValueError(
            f"expected finite data from the simulator, got NaN or infinite values in {bad} of {n} "
            "rows; clip or transform them, since leaving them out would change the posterior"
        )
    return theta, x.to(theta.dtype)


class _Encoder(nn.Module):
    """q(θ | x): a family on the whole line, after the map from there to the prior's support.

    Args:
        prior: p(θ).
        summary: What the network sees of data.
        family: Of guides.
        hidden: The widths of the network.
        theta: Simulated parameters, by which they are standardised.
        x: The data that belong to them, likewise.
    """

    centre: Tensor
    scale: Tensor
    x_centre: Tensor
    x_scale: Tensor

    def __init__(
        self,
        prior: Distribution,
        summary: Callable[[Tensor], Tensor] | None,
        family: Family,
        hidden: tuple[int, ...],
        theta: Tensor,
        x: Tensor,
    ) -> None:
        super().__init__()
        self.transform = biject_to(prior.support)
        self.summary = summary
        line = self.transform.inv(theta)
        self.register_buffer("centre", line.mean(0))
        self.register_buffer("scale", line.std(0).clamp(min=_LEAST_SCALE))
        seen = self._summarised(x)
        self.register_buffer("x_centre", seen.mean(0))
        self.register_buffer("x_scale", seen.std(0).clamp(min=_LEAST_SCALE))
        self.q = family(partial(_perceptron, seen.shape[-1], hidden), line.shape[-1])

    def _summarised(self, x: Tensor) -> Tensor:
        if self.summary is not None:
            x = self.summary(x)
        return x.reshape(len(x), -1).to(self.centre.dtype)

    def unconstrained(self, theta: Tensor) -> Tensor:
        """θ (n, D) on the whole line, standardised."""
        return (self.transform.inv(theta) - self.centre) / self.scale

    def on_the_line(self, x: Tensor) -> Any:
        """The distribution of the standardised θ given data (n, *shape)."""
        return self.q((self._summarised(x) - self.x_centre) / self.x_scale)

    def forward(self, x: Tensor) -> Any:
        """q(θ | x) of data (n, *shape)."""
        shift = torch.distributions.AffineTransform(self.centre, self.scale, event_dim=1)
        return dist.TransformedDistribution(self.on_the_line(x), [shift, self.transform])


def _perceptron(inputs: int, hidden: tuple[int, ...], outputs: int) -> nn.Module:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.SiLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


class _Pairs:
    """Pairs (x, u) in batches, in another order in every pass."""

    def __init__(self, x: Tensor, u: Tensor, batch: int) -> None:
        self.x = x
        self.u = u
        self.batch = batch

    def __len__(self) -> int:
        return -(-len(self.x) // self.batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.randperm(len(self.x), device=self.x.device).split(self.batch):
            yield self.x[rows], self.u[rows]


class _HeldOut:
    """The average log q of pairs that are held out, measured after every epoch."""

    def __init__(self, encoder: _Encoder, x: Tensor, u: Tensor) -> None:
        self.modules: list[nn.Module] = [encoder]
        self._encoder = encoder
        self._x = x
        self._u = u

    def __call__(self) -> dict[str, float]:
        """The metric by its name."""
        with evaluating(self._encoder):
            return {_METRIC: float(self._encoder.on_the_line(self._x).log_prob(self._u).mean())}


@dataclass(frozen=True, eq=False, repr=False)
class Amortisation(Result):
    """q(θ | x) of a simulator, for any x.

    Attributes:
        program: Prior, simulator and guide as one program of the latent "theta"; with a density
            where the simulator returns a distribution.
        calibration: The ranks of true parameters among draws of q, of pairs that were not trained
            on.
        information: E[log q(θ | x) − log p(θ)] on these, in nats: what x tells of θ, at least
            (Barber and Agakov 2003).
        simulations: How many pairs it was trained on, those held out included.
        held_out: The average log q of the standardised parameters, by epoch.
        seconds: Wall time of simulation, training and calibration.

    Examples:
        >>> def simulator(theta):
        ...     return theta + 0.5 * torch.randn_like(theta)
        >>> prior = dist.Normal(torch.zeros(1), 1.0).to_event(1)
        >>> few = {"simulations": 300, "epochs": 2, "calibrations": 50, "hidden": (8,)}
        >>> found = amortise(simulator, prior, family=guides.diagonal, **few, seed=0)
        >>> found.simulations, found.held_out.shape
        (300, torch.Size([2]))
    """

    program: SimulatorProgram
    calibration: Calibration
    information: Estimate
    simulations: int
    held_out: Tensor
    seconds: float

    def posterior(self, x: Tensor) -> Any:
        """q(θ | x), a distribution of batch shape (N,) to draw from and to ask for log_prob.

        Args:
            x: Data of shape (N, *shape).
        """
        with evaluating(self.program.encoder):
            return self.program.encoder(x)

    @property
    def verdict(self) -> Verdict:
        """That of its calibration."""
        return self.calibration.verdict

    @property
    def headline(self) -> str:
        """What data tell of the parameters, and what that took."""
        return (
            f"{self.information} nats of information on theta, {self.simulations} simulations, "
            f"{len(self.held_out)} epochs, {self.seconds:.0f} s"
        )

    def table(self) -> pandas.DataFrame:
        """That of its calibration: a row for each parameter."""
        return self.calibration.table()

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each simulation of the calibration: the ranks of the parameters."""
        return self.calibration.to_pandas()
