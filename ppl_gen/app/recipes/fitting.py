"""What fitting a model takes, by the name of the model: the program, what stands beside it,
optimisers, batches, a step.
"""

from __future__ import annotations

__all__ = ["DISCREPANCIES", "FITTINGS", "LOSSES", "Fitting", "prepare"]

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ppl_gen import critics
from ppl_gen.app.config import ADVERSARIAL, Config
from ppl_gen.app.recipes import build
from ppl_gen.app.recipes.conditions import Condition, condition
from ppl_gen.contexts import evaluating, forked
from ppl_gen.data import Batches, Split, StreamedSplit
from ppl_gen.data.domains import UnpairedBatches
from ppl_gen.inference import (
    adversarial_step,
    cycle_step,
    elbo,
    information_loss,
    losses,
    moving_average,
    svi_step,
)
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.fitting.adversarial import expect_adversaries
from ppl_gen.inference.fitting.cycle import ImagePool
from ppl_gen.inference.fitting.moment_matching import Discrepancy, moment_step
from ppl_gen.inference.samples.discrepancies import squared_energy, squared_mmd
from ppl_gen.inference.samples.features import classifier_features
from ppl_gen.names import resolve
from ppl_gen.program import simulate
from ppl_gen.protocols import Step

LOSSES: dict[str, losses.AdversarialLoss] = {
    "non-saturating": losses.non_saturating,
    "minimax": losses.minimax,
    "least-squares": losses.least_squares,
    "hinge": losses.hinge,
    "wasserstein": losses.wasserstein,
}
DISCREPANCIES: dict[str, Discrepancy] = {"mmd": squared_mmd, "energy": squared_energy}
_PROBED = 100  # data that are drawn or scored before a checkpoint


@dataclass(frozen=True)
class Fitting:
    """All that moves while a model is fitted, and all that a checkpoint has to hold, on one device.

    Attributes:
        program: What is fitted.
        condition: What it is conditioned on.
        companions: Networks beside it that are no part of it: critics, its moving average, pools of
            images.
        optimizers: Of the program and of the companions, always in one order.
        batches: What an epoch walks through.
        begin: From the number of steps done and an engine to the step.
        probe: Scores, or draws, some data: what has to be finite.
        pace: Sets the learning rates of an epoch, counted from 1.
        remark: What the user is to know before it begins.
    """

    program: Any
    condition: Condition | None
    companions: nn.ModuleDict
    optimizers: tuple[Optimizer, ...]
    batches: Batches | UnpairedBatches
    begin: Callable[[int, Engine], Step]
    probe: Callable[[], Tensor]
    pace: Callable[[int], None] = lambda epoch: None
    remark: str = ""

    @property
    def shown(self) -> Any:
        """What is sampled and judged: the moving average where there is one, else the program."""
        return self.companions["average"].module if "average" in self.companions else self.program

    def is_finite(self) -> bool:
        """Whether all weights and some data scored or drawn with them are; the random state stays
        as it is.
        """
        parts = [self.program, *self.companions.values()]
        if not all(bool(torch.isfinite(t).all()) for part in parts for t in part.parameters()):
            return False
        with evaluating(*parts), forked(next(self.program.parameters()).device, 0):
            return bool(torch.isfinite(self.probe()).all())


class _Start(NamedTuple):
    """What every fitting begins with, on its device."""

    config: Config
    data: Any
    condition: Condition | None
    program: Any
    device: torch.device

    @property
    def rate(self) -> float:
        assert self.config.lr is not None
        return self.config.lr

    def batches(self) -> Batches:
        return self.conditioned(self.data.train).batches(self.config.batch_size)

    def conditioned(self, split: Split | StreamedSplit) -> Split | StreamedSplit:
        """With the context in the place of the labels; a stream has no context but its labels."""
        if self.condition is None or isinstance(split, StreamedSplit):
            return split
        return replace(split, y=self.condition.of(split.x, split.y))

    def probed(self) -> list[Tensor]:
        """Some test data and their context."""
        few = self.data.test.fixed(0, min(len(self.data.test), _PROBED))
        return [few.x, *([] if self.condition is None else self.condition.context(few))]


def prepare(config: Config, data: Any, device: torch.device) -> Fitting:
    """All that the model of a configuration takes to be fitted, its weights drawn from the
    configuration's seed.

    Args:
        config: What was asked for.
        data: The data that it names, on the device.
        device: Where it is fitted.

    Raises:
        ValueError: If names, numbers or data do not go together, as `build.program` and the steps
            say.
    """
    build.expect_numbers(config)
    _expect_batches(config, data)
    if config.loss == "wasserstein" and not (config.penalty or config.spectral):
        remedy = (
            "--spectral"
            if config.model == "cycle-gan"
            else "--penalty 10 (and --r1 0), or --spectral"
        )
        raise ValueError(
            "expected a critic of bounded slope for --loss wasserstein, which else has no end, "
            f"got a free one; say {remedy}"
        )
    given = condition(config, data)
    return FITTINGS[config.model](
        _Start(config, data, given, build.program(config, data, given).to(device), device)
    )


def _expect_batches(config: Config, data: Any) -> None:
    """Says what is wrong with the size of batches, and when one would be of a single datum and tell
    nothing of a spread.
    """
    data.train.batches(config.batch_size)
    n, size = len(data.train), config.batch_size
    if config.model in (*ADVERSARIAL, "gmmn") and (size == 1 or n % size == 1):
        raise ValueError(
            f"expected batches of at least 2 data, got one of 1 with --batch-size {size} and {n} "
            "data; say another --batch-size"
        )


def _explicit(start: _Start) -> Fitting:
    """By SVI."""
    config, program = start.config, start.program
    optimizer, batches, probed = (
        Adam(program.parameters(), start.rate, fused=True),
        start.batches(),
        start.probed(),
    )

    def begin(first_step: int, engine: Engine) -> Step:
        objective, beta = build.objective(config), build.beta(config, len(batches))
        return svi_step(
            program, optimizer, objective, beta=beta, first_step=first_step, engine=engine
        )

    def probe() -> Tensor:
        return elbo(program, None, *probed, particles=1, seed=0).value

    return Fitting(program, start.condition, nn.ModuleDict(), (optimizer,), batches, begin, probe)


def _adversarial(
    start: _Start,
    critic: nn.Module,
    auxiliary: Callable[..., Tensor] | None = None,
    remark: str = "",
) -> Fitting:
    """Against a critic, by Adam without momentum."""
    config, program = start.config, start.program
    companions = nn.ModuleDict({"critic": _normalised(config, critic).to(start.device)})
    average = moving_average(program, config.average) if config.average else None
    if average is not None:
        companions["average"] = average
    ours, theirs = (_adam(start, part, (0.0, 0.9)) for part in (program, companions["critic"]))
    step = adversarial_step(
        program,
        companions["critic"],
        ours,
        theirs,
        LOSSES[resolve("loss", config.loss, LOSSES)],
        config.critic_steps,
        r1=config.r1,
        penalty=config.penalty,
        auxiliary=auxiliary,
        average=average,
    )
    probed, shown = start.probed(), program if average is None else average.module
    expect_adversaries(program, companions["critic"], *probed)

    def probe() -> Tensor:
        return simulate(shown, len(probed[0]), *probed[1:])

    return Fitting(
        program,
        start.condition,
        companions,
        (ours, theirs),
        start.batches(),
        lambda *_: step,
        probe,
        remark=remark,
    )


def _conditioned(start: _Start) -> Fitting:
    """Against a critic that sees the context too; of edges, near the image that they were taken of.

    Reference:
        Isola et al. (2017), Image-to-image translation with conditional adversarial networks, eq. 3
        and 4.
    """
    assert start.condition is not None
    critic, weight = (
        critics.mlp_critic(start.data.shape, **start.condition.arguments()),
        start.config.paired,
    )
    if start.condition.name != "edges" or not weight:
        return _adversarial(start, critic)

    def distance(drawn: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return weight * (drawn["x"] - x).abs().mean()

    return _adversarial(
        start,
        critic,
        distance,
        f"auxiliary: {weight:g} times the mean absolute difference to the image",
    )


def _informed(start: _Start) -> Fitting:
    """Against a critic, its codes to be read off the draws."""
    config = start.config
    nothing = config.information * (math.log(config.categories) + config.continuous * math.log(2))
    remark = f"auxiliary: −log q(codes | x), {nothing:.2f} nats where x tells nothing of them"
    told = information_loss(start.program.posterior, config.information)
    return _adversarial(start, critics.mlp_critic(start.data.shape), told, remark)


def _matched(start: _Start) -> Fitting:
    """By a discrepancy between draws and batch."""
    program, name = start.program, start.config.discrepancy
    optimizer = Adam(program.parameters(), start.rate, fused=True)
    step = moment_step(
        program, optimizer, DISCREPANCIES[resolve("discrepancy", name, DISCREPANCIES)]
    )

    def probe() -> Tensor:
        return simulate(program, _PROBED)

    return Fitting(
        program,
        start.condition,
        nn.ModuleDict(),
        (optimizer,),
        start.batches(),
        lambda *_: step,
        probe,
    )


def _cycled(start: _Start) -> Fitting:
    """By two critics and the way back, the learning rate falling to zero over the second half."""
    config, program, data = start.config, start.program, start.data
    companions = _both_sides(start).to(start.device)
    classifier, remark = None, ""
    if config.semantic:
        classifier, remark = _reader(start)
        companions["semantic"] = classifier
    both = (companions["critic_a"], companions["critic_b"])
    ours, of_a, of_b = (_adam(start, part, (0.0, 0.9)) for part in (program, *both))
    step = cycle_step(
        program,
        both,
        ours,
        (of_a, of_b),
        LOSSES[resolve("loss", config.loss, LOSSES)],
        cycle=config.cycle,
        identity=config.identity,
        semantic=None if classifier is None else classifier.log_prob,
        semantic_weight=config.semantic or 1.0,
        r1=config.r1,
        pools=(companions["pool_a"], companions["pool_b"]),  # type: ignore[arg-type]
    )
    a, b = (split.fixed(0, 8).x for split in (data.test.a, data.test.b))

    def pace(epoch: int) -> None:
        for group in (*ours.param_groups, *of_a.param_groups, *of_b.param_groups):
            group["lr"] = start.rate * min(1.0, 2 * (config.passes - epoch + 1) / config.passes)

    def probe() -> Tensor:
        return torch.cat([program.to_b(a), program.to_a(b)])

    batches = data.train.batches(config.batch_size)
    return Fitting(
        program,
        start.condition,
        companions,
        (ours, of_a, of_b),
        batches,
        lambda *_: step,
        probe,
        pace,
        remark,
    )


def _both_sides(start: _Start) -> nn.ModuleDict:
    """A critic and a pool of translations for each domain."""
    channels, *sides = start.data.shape
    if min(sides) < 8:
        raise ValueError(
            "expected images of at least 8 pixels a side for a cycle-gan, got "
            f"{start.data.shape}; say --image-size 8"
        )
    parts: dict[str, nn.Module] = {}
    for side in "ab":
        critic: nn.Module = critics.patch_critic(channels)
        if max(sides) < 64:  # too small for patches
            critic = critics.conv_critic(start.data.shape)
        parts |= {
            f"critic_{side}": _normalised(start.config, critic),
            f"pool_{side}": ImagePool(50, start.data.shape),
        }
    return nn.ModuleDict(parts)


def _reader(start: _Start) -> tuple[Any, str]:
    """A classifier of domain a, whose reading translations are to keep; and how good it is."""
    domain = start.data.a
    train = domain.train.fixed(0)
    if train.y is None or domain.classes is None:
        raise ValueError(
            f"expected labels of domain a for --semantic, got none with {domain.name}; leave it out"
        )
    classifier = classifier_features(train.x, train.y, domain.classes, seed=start.config.seed)
    return (
        classifier,
        f"the classifier of {domain.name} reads {classifier.held_out} of held-out training data",
    )


def _normalised(config: Config, critic: nn.Module) -> nn.Module:
    return critics.spectral(critic) if config.spectral else critic


def _adam(start: _Start, part: nn.Module, betas: tuple[float, float]) -> Adam:
    return Adam(part.parameters(), start.rate, betas, fused=True)


FITTINGS: dict[str, Callable[[_Start], Fitting]] = {
    "vae": _explicit,
    "cvae": _explicit,
    "conv-vae": _explicit,
    "gan": lambda s: _adversarial(s, critics.mlp_critic(s.data.shape)),
    "dcgan": lambda s: _adversarial(
        s, critics.conv_critic(s.data.shape, width=build.channels(s.config, s.data.shape))
    ),
    "cgan": _conditioned,
    "infogan": _informed,
    "cycle-gan": _cycled,
    "gmmn": _matched,
}
