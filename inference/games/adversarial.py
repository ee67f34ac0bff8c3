"""Adversarial fitting of implicit models.

On each batch a critic is updated, then the generator.
"""

from __future__ import annotations

__all__ = [
    "Average",
    "adversarial_step",
    "bidirectional_step",
    "expect_adversaries",
    "expect_pairs",
    "moving_average",
]

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from pyro import poutine
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ppl_gen.arguments import expect_devices, traced
from ppl_gen.contexts import (
    evaluating,
    explained,
    forked,
    guide_of,
    modules_of,
    one_at_a_time,
    takes,
)
from ppl_gen.counts import expect_at_least, expect_number
from ppl_gen.inference.checks import check_draws, telling_rows
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.engine.turns import Play, Turns
from ppl_gen.inference.expect import expect_counts, expect_optimizers
from ppl_gen.inference.games.game import (
    Loss,
    Opponent,
    Watch,
    buffers_kept,
    not_finite,
    spread_of,
    standing_still,
    validated,
)
from ppl_gen.inference.games.losses import non_saturating
from ppl_gen.inference.reach import warn_of_data_out_of_reach
from ppl_gen.protocols import Guide, Program, Step
from ppl_gen.pyro_patches import blend
from ppl_gen.ranks import Ranks
from ppl_gen.sites import latent_sites, stochastic_sites

Average = AveragedModel


def adversarial_step(
    program: Program,
    critic: Callable[..., Tensor],
    generator_optimizer: torch.optim.Optimizer,
    critic_optimizer: torch.optim.Optimizer,
    loss: Loss = non_saturating,
    critic_steps: int = 1,
    *,
    r1: float = 0.0,
    penalty: float = 0.0,
    auxiliary: Callable[..., Tensor] | None = None,
    average: Average | None = None,
    first_step: int = 0,
    engine: Engine = "auto",
    steps: int | None = None,
    across: Ranks | None = None,
) -> Step:
    """A step that descends loss.critic(s(x), s(x̃)) + γ/2 E‖∇s(x)‖², then loss.generator(s(x̃)).

    The first is descended in the critic, the second in the program: s is the critic's score, x the
    batch and x̃ as many draws of the program under the same context. While one side moves the other
    stands still, to the last bit, buffers included. Labels that the program does not ask for are
    left out.

    Args:
        program: Any program whose data are a differentiable function of its latents: a GAN, or
            `Observed(vae, Dirac())`.
        critic: s(x, *context), scores of shape (N, ...); `ppl_gen.critics` has some.
        generator_optimizer: Of the program's parameters.
        critic_optimizer: Of the critic's.
        loss: What the two descend, of `ppl_gen.inference.games.losses`, or any pair of functions
            (critic, generator).
        critic_steps: Updates of the critic for each of the generator: with the same batch, against
            fresh draws.
        r1: γ, the weight of the zero-centred gradient penalty on data; 0.1 to 10 make the game
            converge.
        penalty: λ, the weight of the gradient penalty between data and draws, 10 for Wasserstein.
        auxiliary: A loss of the draws, added to the generator's: called with the values of the
            sites by name ("x" among them) and the batch (x, *context). `information_loss` is one;
            `lambda drawn, x, y: (drawn["x"] - x).abs().mean()`, for y an image paired with x,
            another.
        average: A `moving_average` of the program, brought up to date after each step.
        first_step: The index of the first step, above 0 where a fit goes on.
        engine: "eager" makes the moves one by one. "fx" and "inductor" replay all of them as one
            graph, uncompiled or compiled, with the same random numbers, for Adam and AdamW. "auto"
            compiles where 20,000 steps or more are to come or were made.
        steps: How many steps are to come, if known.
        across: The processes of a `ranks.joined()`, each of which calls its step on its own share
            of every batch: all make the same updates, each loss averaged over the data of all.
            Batch normalisation sees each share by itself. None for one process.

    Returns:
        A step with the metrics "critic" and "generator", the two losses without penalties and
        auxiliaries, "penalty" and "auxiliary" where there are any, and "spread", the standard
        deviation of draws in units of that of data.

    Raises:
        ValueError: If critic_steps is below 1, or a weight negative or not finite. On the first
            batch, if data or context do not fit the program, its draws have no gradient, or the
            critic does not give one row of finite scores for each datum. On any, if an optimiser
            holds no parameter that gets a gradient.
        NotFinite: Before an update, if a loss is not finite.
        ProcessLost: If another of several processes has ended.

    Warns:
        RuntimeWarning: Once each, if the critic tells all draws from data for 1000 steps, or the
            spread of the draws vanishes; on the first batch, if its data lie where the last layer
            of the program never draws.

    Examples:
        >>> from ppl_gen.critics import mlp_critic
        >>> gan, critic = models.gan((2,), latent_dim=2, hidden=[8]), mlp_critic((2,), hidden=[8])
        >>> optimizers = [torch.optim.Adam(net.parameters(), 1e-3) for net in (gan, critic)]
        >>> step = adversarial_step(gan, critic, *optimizers, engine="eager")
        >>> sorted(step(torch.randn(20, 2)))
        ['critic', 'generator', 'spread']

    Reference:
        Goodfellow et al. (2014), algorithm 1; Mescheder, Geiger and Nowozin (2018) for r1.
    """
    expect_counts(critic_steps=critic_steps)
    expect_at_least(0, first_step=first_step, steps=steps)
    turns = Turns(
        {"critic": critic_optimizer, "generator": generator_optimizer},
        engine=engine,
        steps=steps,
        first_step=first_step,
        across=across,
        failure=not_finite,
    )
    opponent = Opponent(critic, turns, loss, r1, penalty)
    generator_loss = loss[1]
    modules = modules_of(program)

    def begin(batch: Sequence[Tensor]) -> None:
        expect_optimizers(generator_optimizer, critic_optimizer)
        drawn = expect_adversaries(program, critic, *batch)
        warn_of_data_out_of_reach(drawn, batch[0])
        turns.begin(program, critic, auxiliary, *loss[:2])

    def update_generator(drawn: Mapping[str, Tensor], batch: Sequence[Tensor]) -> dict[str, Tensor]:
        with standing_still(critic):
            total = generator_loss(critic(drawn["x"], *batch[1:]))
            metrics = {"generator": total.detach()}
            if auxiliary is not None:
                added = auxiliary(drawn, *batch)
                metrics["auxiliary"] = added.detach()
                total = total + added
            turns.descend("generator", total, batch[0].shape[0])
        return metrics

    def play(*batch: Tensor) -> dict[str, Tensor]:
        x, *context = batch
        for _ in range(critic_steps - 1):
            with buffers_kept(modules), torch.no_grad():
                only_for_critic = _draw(program, x.shape[0], context)["x"]
            opponent.update(x, only_for_critic, *context)
        drawn = _draw(program, x.shape[0], context)
        shown = drawn["x"].detach()
        metrics = opponent.update(x, shown, *context)
        metrics |= update_generator(drawn, batch)
        metrics["spread"] = spread_of(shown, x)
        return metrics

    return _watched(turns, begin, play, loss, program, average)


def bidirectional_step(
    program: Program,
    critic: Callable[..., Tensor],
    generator_optimizer: torch.optim.Optimizer,
    critic_optimizer: torch.optim.Optimizer,
    loss: Loss = non_saturating,
    critic_steps: int = 1,
    *,
    guide: Guide | None = None,
    r1: float = 0.0,
    penalty: float = 0.0,
    average: Average | None = None,
    first_step: int = 0,
    engine: Engine = "auto",
    steps: int | None = None,
    across: Ranks | None = None,
) -> Step:
    """A step of the game over pairs: (x, z) with z ~ q(z | x), against (x̃, z̃) ~ p(x, z).

    The critic descends loss.critic(s(x, z), s(x̃, z̃)) + γ/2 E‖∇s(x, z)‖². Program and guide
    descend loss.generator(s(x̃, z̃)) + loss.generator(2m − s(x, z)): each side is to be taken for
    the other, m being the loss's `middle`. While one side moves the other stands still.

    Args:
        program: Any program whose data are a differentiable function of its latents: an `ALI`.
        critic: s(x, z, *context), scores of shape (N, ...), all latents of a datum side by side in
            z (N, D): `ppl_gen.critics.mlp_critic(shape, attributes=D)`.
        generator_optimizer: Of the parameters of program and guide.
        critic_optimizer: Of the critic's.
        loss: What they descend, of `ppl_gen.inference.games.losses`, or any pair of functions
            (critic, generator).
        critic_steps: Updates of the critic for each of the program: with the same batch, against
            fresh draws.
        guide: q(z | x, context), whose draws have a gradient; `program.guide` if left out.
        r1: γ, the weight of the zero-centred gradient penalty on the pairs of data.
        penalty: λ, the weight of the gradient penalty between pairs of data and draws, 10 for
            Wasserstein.
        average: A `moving_average` of the program, brought up to date after each step.
        first_step: The index of the first step, above 0 where a fit goes on.
        engine: "eager" makes the moves one by one. "fx" and "inductor" replay all of them as one
            graph, uncompiled or compiled, with the same random numbers, for Adam and AdamW. "auto"
            compiles where 20,000 steps or more are to come or were made.
        steps: How many steps are to come, if known.
        across: The processes of a `ranks.joined()`, each of which calls its step on its own share
            of every batch: all make the same updates, each loss averaged over the data of all.
            Batch normalisation sees each share by itself. None for one process.

    Returns:
        A step with the metrics "critic", "generator" (both sides' losses), "penalty" where there is
        one, and "spread", the standard deviation of draws in units of that of data.

    Raises:
        ValueError: If critic_steps is below 1, or a weight negative or not finite. On the first
            batch, if data, program and guide do not fit each other, draws have no gradient, or the
            critic does not give one row of finite scores for each pair. On any, if an optimiser
            holds no parameter that gets a gradient.
        NotFinite: Before an update, if a loss is not finite.
        ProcessLost: If another of several processes has ended.

    Warns:
        RuntimeWarning: Once each, if the critic tells all draws from data for 1000 steps, or the
            spread of the draws vanishes; on the first batch, if its data lie where the last layer
            of the program never draws.

    Examples:
        >>> from ppl_gen.critics import mlp_critic
        >>> program = models.ali((2,), latent_dim=1, hidden=[8])
        >>> critic = mlp_critic((2,), attributes=1, hidden=[8])  # of pairs (x, z)
        >>> optimizers = [torch.optim.Adam(net.parameters(), 1e-3) for net in (program, critic)]
        >>> step = bidirectional_step(program, critic, *optimizers, engine="eager")
        >>> sorted(step(torch.randn(20, 2)))
        ['critic', 'generator', 'spread']

    Reference:
        Dumoulin et al. (2017), Adversarially learned inference, eq. 2 and algorithm 1; Donahue,
        Krähenbühl and Darrell (2017), Adversarial feature learning, eq. 3.
    """
    expect_counts(critic_steps=critic_steps)
    expect_at_least(0, first_step=first_step, steps=steps)
    guide = guide_of(program, guide)
    of_pairs = _OfPairs(critic)
    turns = Turns(
        {"critic": critic_optimizer, "generator": generator_optimizer},
        engine=engine,
        steps=steps,
        first_step=first_step,
        across=across,
        failure=not_finite,
    )
    opponent = Opponent(of_pairs, turns, loss, r1, penalty)
    generator_loss = loss[1]
    middle = getattr(loss, "middle", 0.0)
    modules = modules_of(program, guide)

    def begin(batch: Sequence[Tensor]) -> None:
        expect_optimizers(generator_optimizer, critic_optimizer)
        drawn = expect_pairs(program, guide, critic, *batch)
        warn_of_data_out_of_reach(drawn, batch[0])
        of_pairs.shape = batch[0].shape[1:]
        turns.begin(program, guide, critic, *loss[:2])

    def pairs(x: Tensor, context: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(x, z) of data and (x̃, z̃) of draws, flat and side by side, (N, size + D) each."""
        seen = latent_sites(poutine.trace(guide).get_trace(x, *context))
        drawn = _draw(program, x.shape[0], context)
        inferred = {name: seen[name]["value"] for name in drawn if name in seen}
        return _joined(x, inferred), _joined(drawn["x"], drawn)

    def play(*batch: Tensor) -> dict[str, Tensor]:
        x, *context = batch
        for _ in range(critic_steps - 1):
            with buffers_kept(modules), torch.no_grad():
                only_for_critic = pairs(x, context)
            opponent.update(*only_for_critic, *context)
        of_data, of_draws = pairs(x, context)
        shown = of_draws.detach()
        metrics = opponent.update(of_data.detach(), shown, *context)
        with standing_still(critic):
            total = generator_loss(of_pairs(of_draws, *context))
            total = total + generator_loss(2 * middle - of_pairs(of_data, *context))
            turns.descend("generator", total, x.shape[0])
        metrics["generator"] = total.detach()
        metrics["spread"] = spread_of(of_pairs.split(shown)[0], x)
        return metrics

    return _watched(turns, begin, play, loss, program, average)


def _watched(
    turns: Turns,
    begin: Callable[[Sequence[Tensor]], None],
    play: Play,
    loss: Loss,
    program: Program,
    average: Average | None,
) -> Step:
    """The step of a game, which is watched.

    Args:
        turns: Makes the moves.
        begin: Looks at the first batch.
        play: The moves, with the metrics "critic" and "spread".
        loss: What the players descend.
        program: What draws; of a batch it takes what it is conditioned on.
        average: Follows the program; None if nothing does.
    """
    watch = Watch(getattr(loss, "perfect", None))
    width = takes(program.model)

    @one_at_a_time
    def step(*batch: Tensor) -> Mapping[str, Tensor]:
        batch = batch[:width]
        if turns.is_first:
            begin(batch)
        with validated(turns.is_first, batch[0].device):
            metrics = turns(play, *batch)
        watch(metrics["critic"], metrics["spread"])
        if average is not None:
            average.update_parameters(program)  # type: ignore[arg-type]
        return metrics

    return step


class _OfPairs:
    """A critic of x and z as one of both side by side, (N, size + D), over which penalties go.

    Args:
        critic: s(x, z, *context).

    Attributes:
        shape: That of one datum x.
    """

    def __init__(self, critic: Callable[..., Tensor]) -> None:
        self.critic = critic
        self.shape: Sequence[int] = ()

    def __call__(self, pair: Tensor, *context: Tensor) -> Tensor:
        return self.critic(*self.split(pair), *context)

    def split(self, pair: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, *shape) and z (N, D)."""
        size = math.prod(self.shape)
        return pair[:, :size].unflatten(1, self.shape), pair[:, size:]


def _joined(x: Tensor, sites: Mapping[str, Tensor]) -> Tensor:
    """x and all latents, flat and side by side, (N, size + D)."""
    parts = [x.flatten(1)]
    for name, value in sites.items():
        if name != "x":
            parts.append(value.flatten(1).to(x.dtype))
    return torch.cat(parts, 1)


def expect_pairs(
    program: Program, guide: Guide, critic: Callable[..., Tensor], x: Tensor, *context: Tensor
) -> Tensor:
    """Has the critic score a few pairs of data and latents; the random state is left as it was.

    Args:
        program: The program to be fitted.
        guide: q(z | x, context).
        critic: s(x, z, *context).
        x: A batch of data, (N, *shape).
        *context: Its labels or attributes, each of length N.

    Returns:
        The draws, (n, *shape).

    Raises:
        ValueError: If x or a context is empty, not finite or of another length, if the draws have
            another shape than x or no gradient, if the guide samples other latents than the
            program, or if the critic does not give one row of finite scores for each pair.
    """
    expect_devices((critic, guide), (x, *context))
    check_draws(program, x, *context)
    rows = telling_rows(x, context)
    few = [part[rows] for part in (x, *context)]
    with forked(x.device, None), evaluating(program, guide, critic), torch.enable_grad():
        drawn = _draw(program, len(rows), few[1:])
        seen = latent_sites(traced(guide, few, "guide"))
        own = {name: tuple(value.shape) for name, value in drawn.items() if name != "x"}
        inferred = {name: tuple(site["value"].shape) for name, site in seen.items()}
        if own != inferred:
            raise ValueError(
                f"expected the guide to sample the latents of the program, {own}, got {inferred}; "
                "give the sites the same names and sizes in both"
            )
        if not all(site["value"].requires_grad for site in seen.values()):
            raise ValueError(
                "expected a guide whose draws have a gradient, got some without: discrete latents, "
                "or no parameter to train; take a guide of reparameterised draws (DiagonalGaussian)"
            )
        of_pairs = _OfPairs(critic)
        of_pairs.shape = x.shape[1:]
        remedy = f"take one of data and {sum(map(_width, own.values()))} latents side by side"
        with explained("a critic that scores pairs (x, z)", remedy):
            scores = of_pairs(_joined(drawn["x"], drawn), *few[1:])
    _expect_scores(scores, len(rows))
    return drawn["x"]


def _width(shape: Sequence[int]) -> int:
    """The numbers of one datum at a site of this shape."""
    return math.prod(shape[1:])


def _draw(program: Program, n: int, context: Sequence[Tensor]) -> dict[str, Tensor]:
    """The values of all sites in one run of the program, with gradients."""
    trace = poutine.trace(program.model).get_trace(None, *context, n=n)
    return {name: site["value"] for name, site in stochastic_sites(trace).items()}


def moving_average(program: nn.Module, decay: float = 0.999) -> Average:
    """θ̄ ← dₙ θ̄ + (1 − dₙ) θ, dₙ = min(d, (1 + n)/(10 + n)): a copy of a program that follows it.

    Its `module` is a program like any other. Buffers are taken over as they are. The weight dₙ of
    the n-th update lets it forget where it began.

    Args:
        program: A program that is an `nn.Module`.
        decay: d, from 0 to below 1: the average reaches over some 1/(1 − d) steps.

    Raises:
        ValueError: If the decay is out of range.

    Examples:
        >>> from ppl_gen.critics import mlp_critic
        >>> gan, critic = models.gan((2,), latent_dim=2, hidden=[8]), mlp_critic((2,), hidden=[8])
        >>> optimizers = [torch.optim.Adam(net.parameters(), 1e-3) for net in (gan, critic)]
        >>> average = moving_average(gan)
        >>> step = adversarial_step(gan, critic, *optimizers, average=average, engine="eager")
        >>> metrics = step(torch.randn(20, 2))
        >>> average.module.model(None, n=5).shape
        torch.Size([5, 2])

    Reference:
        Yazıcı et al. (2019), The unusual effectiveness of averaging in GAN training.
    """
    expect_number(decay=decay)
    if not 0 <= decay < 1:
        raise ValueError(f"expected a decay from 0 to below 1, got {decay}")

    average = _Following(program, decay)
    for p in average.parameters():
        p.requires_grad_(False)
    return average


class _Following(AveragedModel):
    """An average whose weight is known without a look at the device, as torch's own is not.

    Args:
        program: What it follows.
        decay: d.
    """

    def __init__(self, program: nn.Module, decay: float) -> None:
        super().__init__(program)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Goes a step towards the program.

        Args:
            model: The program.
        """
        n = int(self.n_averaged)  # of the processor, unless someone has moved it
        old: list[Tensor] = list(self.module.parameters())
        new = [p.to(to.device) for p, to in zip(model.parameters(), old, strict=True)]
        taken_over = list(zip(self.module.buffers(), model.buffers(), strict=True))
        if n == 0:
            taken_over += zip(old, new, strict=True)
        else:
            blend(old, new, 1 - min(self.decay, (1 + n) / (10 + n)))
        for kept, given in taken_over:
            kept.copy_(given)
        self.n_averaged += 1


def expect_adversaries(
    program: Program, critic: Callable[..., Tensor], x: Tensor, *context: Tensor
) -> Tensor:
    """Draws a few data and has the critic score them; the random state is left as it was.

    Args:
        program: The program to be fitted.
        critic: s(x, *context).
        x: A batch of data, (N, *shape).
        *context: Its labels or attributes, each of length N.

    Returns:
        The draws, (n, *shape).

    Raises:
        ValueError: If x or a context is empty, not finite or of another length, if the draws have
            another shape than x or no gradient, or if the critic does not give one row of finite
            scores for each datum.
    """
    expect_devices((critic,), (x, *context))
    drawn = check_draws(program, x, *context)
    few = [c[telling_rows(x, context)] for c in context]
    with forked(x.device, None), evaluating(critic):
        scores = critic(drawn, *few)
    _expect_scores(scores, len(drawn))
    return drawn


def _expect_scores(scores: Tensor, count: int) -> None:
    """Raises ValueError unless a critic gave one row of finite scores for each of `count` data."""
    if scores.shape[:1] != (count,) or not bool(torch.isfinite(scores).all()):
        raise ValueError(
            f"expected one row of finite scores for each datum, ({count}, ...), got shape "
            f"{tuple(scores.shape)}"
        )
