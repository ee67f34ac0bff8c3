"""What moves while a model is fitted, and what every way of fitting begins with."""

from __future__ import annotations

__all__ = ["PROBED", "Fitting", "Start", "at_once"]

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.stopping import Stopping
from ppl_gen.app.parts.conditioning import Conditioning
from ppl_gen.app.parts.optimizers import optimizer
from ppl_gen.contexts import evaluating, forked
from ppl_gen.data import Batches, Split, StreamedSplit, UnpairedBatches
from ppl_gen.inference import Patience, ReconstructionValidation, Validation
from ppl_gen.inference.engine.replay import Engine, plan
from ppl_gen.inference.fitting.loop import Measure
from ppl_gen.memory import expect_memory
from ppl_gen.protocols import Step
from ppl_gen.ranks import ALONE, Ranks

PROBED = 100  # data that are drawn or scored before a checkpoint
_SCORED = 1000  # pairs of a held-out datum and a draw of its latents, at least


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """All that moves while a model is fitted, and all that a checkpoint has to hold, on one device.

    Attributes:
        program: What is fitted.
        condition: What it is conditioned on, None if nothing.
        companions: Networks beside it that are no part of it: critics, its moving average, pools of
            images.
        optimizers: Of the program and of the companions, always in one order.
        batches: What an epoch walks through; nothing for a model that is fitted without epochs.
        begin: From the number of steps done and an engine to the step.
        probe: Scores, or draws, some data: what has to be finite.
        pace: Sets the learning rates of an epoch, counted from 1, and what moves in it.
        remark: What the user is to know before it begins.
        validation: Measures both terms of the bound, or the error of reconstruction, on data held
            out; None if none are.
        stopping: When the fit is over, and which weights are kept; None if it runs all epochs.
        is_shared: Whether its step makes the update of all processes' data.
        plan: From the number of steps, what the user asked for and the device to the engine that
            pays.
    """

    program: Any
    condition: Conditioning | None
    companions: nn.ModuleDict
    optimizers: tuple[Optimizer, ...]
    batches: Batches | UnpairedBatches | tuple[()]
    begin: Callable[[int, Engine], Step]
    probe: Callable[[], Tensor]
    pace: Callable[[int], None] = lambda epoch: None
    remark: str = ""
    validation: Measure | None = None
    stopping: Stopping | None = None
    is_shared: bool = False
    plan: Callable[[int, Engine, torch.device], Engine] = plan

    @property
    def shown(self) -> Any:
        """What is sampled and judged: the moving average where there is one, else the program."""
        if "average" in self.companions:
            return self.companions["average"].module
        return self.program

    def shown_epoch(self, epoch: int) -> int:
        """The number of epochs that the weights which are judged have been fitted for.

        Args:
            epoch: The number of epochs that are done.
        """
        if self.stopping is None or self.stopping.rule.best is None:
            return epoch
        return self.stopping.rule.best

    def is_finite(self) -> bool:
        """Whether all weights, and some data scored or drawn with them, are finite.

        The random state stays as it is.
        """
        parts = [self.program, *self.companions.values()]
        for part in parts:
            for weights in part.parameters():
                if not bool(torch.isfinite(weights).all()):
                    return False
        device = next(self.program.parameters()).device
        with evaluating(*parts), forked(device, 0):
            return bool(torch.isfinite(self.probe()).all())


@dataclass(frozen=True, kw_only=True)
class Start:
    """What every way of fitting begins with.

    Attributes:
        config: What was asked for.
        data: Its data, on the device.
        condition: What the program is conditioned on, None if nothing.
        program: The new program, on the device.
        device: Where it is fitted.
        ranks: The processes that fit it.
    """

    config: Config
    data: Any
    condition: Conditioning | None
    program: Any
    device: torch.device
    ranks: Ranks = ALONE

    @property
    def across(self) -> Ranks | None:
        """The processes that a step is to average over; None for one."""
        if self.ranks.count == 1:
            return None
        return self.ranks

    def optimizer(self, part: nn.Module, betas: tuple[float, float] = (0.9, 0.999)) -> Optimizer:
        """The optimiser of a network that the configuration names, at its learning rate.

        Args:
            part: The program or a companion.
            betas: Decays of Adam's averages of the gradient and of its square.
        """
        weights = list(part.parameters())
        expect_memory(
            "gradients of all weights, and the optimiser's averages of them,",
            3 * sum(weight.nbytes for weight in weights),
            "take fewer latents (latent_dim=...), narrower layers or smaller images "
            "(image_size=...)",
            self.device,
        )
        return optimizer(self.config, weights, betas)

    def batches(self, at_least: int = 1) -> Batches:
        """Batches of the training data, with the context in the place of the labels.

        Args:
            at_least: The fewest data that a batch may have in each process.

        Raises:
            ValueError: If the size of batches does not suit the data, or the number of processes.
        """
        split = self.data.train
        batches: Batches = self._conditioned(split).batches(self.config.batch_size)
        size, n = self.config.batch_size, len(split)
        count = self.ranks.count
        if size % count:
            raise ValueError(
                f"expected a --batch-size that {count} processes share evenly, since it is that of "
                f"all of them, got {size}; say {size + count - size % count}, or take another "
                "number of processes"
            )
        smallest = n % size or size
        if smallest < at_least * count:
            of_processes = ""
            if count > 1:
                of_processes = f", {at_least} for each of {count} processes"
            raise ValueError(
                f"expected batches of at least {at_least * count} data{of_processes}, got one of "
                f"{smallest} with --batch-size {size} and {n} data; say another --batch-size"
            )
        return batches

    def _conditioned(self, split: Split | StreamedSplit) -> Split | StreamedSplit:
        """With the context in the place of the labels; a stream has no context but its labels."""
        if self.condition is None or isinstance(split, StreamedSplit):
            return split
        return replace(split, y=self.condition.of(split.x, split.y))

    def probed(self) -> list[Tensor]:
        """The first test data and their context: (x, *context)."""
        count = min(len(self.data.test), PROBED)
        return self._scored(self.data.test.fixed(0, count))

    def _scored(self, split: Split) -> list[Tensor]:
        """Data under one draw of their binarisation, and their context: (x, *context)."""
        if self.condition is None:
            return [split.x]
        return [split.x, *self.condition.context(split)]

    def validation(self) -> Validation | None:
        """Measures the terms of the bound on what is held out, and on as many training data.

        These are drawn by the configuration's seed; so are their pixels and their latents.
        """
        parts = self._measured()
        if parts is None:
            return None
        held_out, train = parts
        return Validation(
            self.program,
            self._scored(held_out),
            self._scored(train),
            particles=math.ceil(_SCORED / len(held_out)),
            seed=self.config.seed,
        )

    def validation_of(self, autoencoder: nn.Module) -> ReconstructionValidation | None:
        """Measures the error of reconstruction on the same data.

        Args:
            autoencoder: Of the program.
        """
        parts = self._measured()
        if parts is None:
            return None
        held_out, train = parts
        return ReconstructionValidation(autoencoder, held_out.x, train.x)

    def _measured(self) -> tuple[Split, Split] | None:
        """What is held out, and as many training data, drawn by the configuration's seed."""
        held_out = self.data.validation
        if held_out is None:
            return None
        seed = self.config.seed
        train = self.data.train
        if len(held_out) < len(train):
            _, train = train.divided(len(held_out), seed)
        return held_out.fixed(seed), train.fixed(seed)

    def stopping(self, **rule: Any) -> Stopping | None:
        """The rule of the configuration; None if all its epochs are to be run.

        Args:
            **rule: Arguments of `Patience`, if it is not the ELBO that is to rise.
        """
        if self.config.patience is None:
            return None
        return Stopping(Patience(self.config.patience, **rule))


def at_once(start: Start) -> Fitting:
    """Of a model without epochs, which its recipe's `complete` fits.

    Args:
        start: What every fitting begins with.
    """

    def begin(first_step: int, engine: Engine) -> Step:
        raise ValueError(f"expected a model with epochs, got a {start.config.model}")

    def probe() -> Tensor:
        return torch.zeros(1)

    return Fitting(
        program=start.program,
        condition=start.condition,
        companions=nn.ModuleDict(),
        optimizers=(),
        batches=(),
        begin=begin,
        probe=probe,
    )
