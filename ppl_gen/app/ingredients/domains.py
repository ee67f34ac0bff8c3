"""Fitting a pair of translators between two domains: by two critics and the way back."""

from __future__ import annotations

__all__ = ["between_domains"]

from typing import Any

import torch
from torch import Tensor, nn

from ppl_gen import critics
from ppl_gen.app.ingredients.fitting import Fitting, Start
from ppl_gen.app.ingredients.games import BETAS, LOSSES, with_bounded_layers
from ppl_gen.inference import cycle_step
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.engine.turns import plan as plan_of_turns
from ppl_gen.inference.games.cycle import ImagePool
from ppl_gen.inference.samples.features import classifier_features
from ppl_gen.protocols import Step

_POOL = 50  # translations that a critic is shown again
_LEAST_SIDE = 8  # pixels
_PATCHES = 64  # pixels a side from which a critic scores patches; smaller images it scores whole
_PROBED = 8  # images of each domain that are translated before a checkpoint


def between_domains(start: Start) -> Fitting:
    """Against a critic in each domain, with images that come back as they were.

    Raises:
        ValueError: If images are too small, labels are missing for --semantic, or a number is out
            of range.
    """
    config = start.config
    program = start.program
    data = start.data
    companions = _critics_and_pools(start).to(start.device)
    remark = ""
    log_prob = None
    if config.semantic:
        classifier, remark = _classifier(start)
        companions["semantic"] = classifier
        log_prob = classifier.log_prob
    critic_a = companions["critic_a"]
    critic_b = companions["critic_b"]
    of_program = start.optimizer(program, BETAS)
    of_a = start.optimizer(critic_a, BETAS)
    of_b = start.optimizer(critic_b, BETAS)
    optimizers = (of_program, of_a, of_b)
    a = data.test.a.fixed(0, _PROBED).x
    b = data.test.b.fixed(0, _PROBED).x

    def begin(first_step: int, engine: Engine) -> Step:
        return cycle_step(
            program,
            (critic_a, critic_b),
            of_program,
            (of_a, of_b),
            LOSSES[config.loss],
            cycle=config.cycle,
            identity=config.identity,
            semantic=log_prob,
            semantic_weight=config.semantic or 1.0,
            r1=config.r1,
            pools=(companions["pool_a"], companions["pool_b"]),  # type: ignore[arg-type]
            first_step=first_step,
            engine=engine,
        )

    begin(0, "eager")  # says what is out of range before a run has a folder

    def probe() -> Tensor:
        return torch.cat([program.to_b(a), program.to_a(b)])

    return Fitting(
        program=program,
        condition=start.condition,
        companions=companions,
        optimizers=optimizers,
        batches=data.train.batches(config.batch_size),
        begin=begin,
        probe=probe,
        remark=remark,
        plan=plan_of_turns,
    )


def _critics_and_pools(start: Start) -> nn.ModuleDict:
    """A critic and a pool of translations for each domain."""
    shape = start.data.shape
    if min(shape[1:]) < _LEAST_SIDE:
        raise ValueError(
            f"expected images of at least {_LEAST_SIDE} pixels a side for a {start.config.model}, "
            f"got {shape}; say --image-size {_LEAST_SIDE}"
        )
    companions = nn.ModuleDict()
    for side in "ab":
        critic = with_bounded_layers(_critic(shape), start.config)
        companions[f"critic_{side}"] = critic
        companions[f"pool_{side}"] = ImagePool(_POOL, shape)
    return companions


def _critic(shape: tuple[int, ...]) -> nn.Module:
    # Its weights are drawn also where it is not used: a seed goes on to mean the same run.
    of_patches = critics.patch_critic(shape[0])
    if max(shape[1:]) < _PATCHES:
        return critics.conv_critic(shape)
    return of_patches


def _classifier(start: Start) -> tuple[Any, str]:
    """A classifier of domain a, whose reading translations are to keep; and how good it is."""
    domain = start.data.a
    train = domain.train.fixed(0)
    if train.y is None or domain.classes is None:
        raise ValueError(
            f"expected labels of domain a for --semantic, got none with {domain.name}; leave it out"
        )
    classifier = classifier_features(train.x, train.y, domain.classes, seed=start.config.seed)
    remark = (
        f"the classifier of {domain.name} reads {classifier.held_out} of held-out training data"
    )
    return classifier, remark
