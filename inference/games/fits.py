"""Games played to their end in one call: a GAN, or two translators, against critics."""

from __future__ import annotations

__all__ = ["GameFit", "fit_cycle", "fit_gan"]

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from ppl_gen.contexts import device_of, seeded
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.expect import expect_counts, expect_rate
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.fitting.loop import Record, by_epoch, fit
from ppl_gen.inference.games.adversarial import adversarial_step, moving_average
from ppl_gen.inference.games.cycle import Pairs, Translators, cycle_step
from ppl_gen.inference.games.game import LOST, VANISHED, Loss
from ppl_gen.inference.games.losses import non_saturating
from ppl_gen.inference.result import Result

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Adam without momentum, which a game does not bear (Mescheder, Geiger and Nowozin 2018).
_BETAS = (0.0, 0.9)


def fit_gan(
    program: nn.Module,
    critic: nn.Module,
    batches: Iterable[tuple[Tensor, ...]],
    loss: Loss = non_saturating,
    *,
    epochs: int,
    rate: float = 2e-3,
    betas: tuple[float, float] = _BETAS,
    r1: float = 0.1,
    critic_steps: int = 1,
    auxiliary: Callable[..., Tensor] | None = None,
    engine: Engine = "auto",
    seed: int | None = None,
    progress: bool = False,
) -> GameFit:
    """A GAN and its critic fitted by Adam, the generator's weights being averaged on the way.

    It is `adversarial_step`, `moving_average` and `fit` in one; for other optimisers take these by
    themselves.

    Args:
        program: A program whose data are a differentiable function of its latents: a GAN, or
            `Observed(vae, Dirac())`.
        critic: s(x, *context), scores of shape (N, ...); `ppl_gen.critics` has some.
        batches: Any re-iterable of tuples (x, *context): `split.batches(50)`.
        loss: What the two descend, of `ppl_gen.inference.games.losses`, or any pair of functions
            (critic, generator).
        epochs: How often all batches are gone through.
        rate: Adam's learning rate, of both.
        betas: Adam's decays of its averages of the gradient and of its square. A first one above 0
            is momentum.
        r1: γ, the weight of the zero-centred gradient penalty on data.
        critic_steps: Updates of the critic for each of the generator.
        auxiliary: A loss of the draws, added to the generator's; see `adversarial_step`.
        engine: "eager" makes the moves one by one; "fx" and "inductor" replay all of them as one
            graph, uncompiled or compiled; "auto" compiles where 20,000 steps or more are to come.
        seed: Seed of all that is drawn in the fit; torch's generators are then left as found. None
            draws from the global generator. Weights were drawn when the modules were made.
        progress: Whether to show a bar; lines, where there is neither a terminal nor a notebook.

    Returns:
        The program whose weights are averages, and how the game went.

    Raises:
        ValueError: If epochs is below 1, a rate or weight is out of range, or program, critic and
            data do not fit together.
        NotFinite: Before an update, if a loss is not finite.

    Warns:
        RuntimeWarning: Once each, if the critic tells all draws from data for 1000 steps, or the
            spread of the draws vanishes.

    Examples:
        >>> from ppl_gen.critics import mlp_critic
        >>> from ppl_gen.data import Split, ring
        >>> from ppl_gen.models import gan
        >>> _ = torch.manual_seed(0)
        >>> played = fit_gan(
        ...     gan((2,), 2, hidden=(8,)),
        ...     mlp_critic((2,), hidden=(8,)),
        ...     Split(ring(300, seed=0)[0]).batches(100),
        ...     epochs=2,
        ...     seed=0,
        ... )
        >>> len(played.records), played.program.model(n=5).shape
        (2, torch.Size([5, 2]))

    Reference:
        Goodfellow et al. (2014), algorithm 1; Mescheder, Geiger and Nowozin (2018) for r1; Yazıcı
        et al. (2019) for the average.
    """
    expect_counts(epochs=epochs)
    expect_rate(rate, usual=2e-3)
    average = moving_average(program)
    with seeded(device_of(program), seed):
        step = adversarial_step(
            program,
            critic,
            _adam(program, rate, betas),
            _adam(critic, rate, betas),
            loss,
            critic_steps,
            r1=r1,
            auxiliary=auxiliary,
            average=average,
            engine=engine,
        )
        records = fit(step, batches, epochs, progress=progress)
    return GameFit(average.module, records, getattr(loss, "perfect", None))


def fit_cycle(
    program: Translators,
    critics: tuple[nn.Module, nn.Module],
    batches: Iterable[tuple[Tensor, ...]],
    loss: Loss = non_saturating,
    *,
    epochs: int,
    rate: float = 2e-3,
    betas: tuple[float, float] = _BETAS,
    cycle: float = 10.0,
    identity: float = 0.0,
    semantic: Callable[[Tensor], Tensor] | None = None,
    semantic_weight: float = 1.0,
    pairs: Pairs | None = None,
    pair_weight: float = 10.0,
    r1: float = 0.1,
    engine: Engine = "auto",
    seed: int | None = None,
    progress: bool = False,
) -> GameFit:
    """Two translators and their critics fitted by Adam, at a rate that falls to 0 in the end.

    It is `cycle_step` and `fit` in one, the learning rate being constant over half of the epochs
    and falling linearly over the other; for other optimisers take these by themselves.

    Args:
        program: A CycleGAN, or any module with translators `to_a` and `to_b`.
        critics: (s_a, s_b), scores of shape (N, ...), one per patch or per image.
        batches: Any re-iterable of (a, b), a batch of each domain: `domains.train.batches(50)`.
        loss: What the two sides descend.
        epochs: How often all batches are gone through.
        rate: Adam's first learning rate, of all.
        betas: Adam's decays of its averages of the gradient and of its square.
        cycle: The weight of cycle consistency.
        identity: The weight of leaving alone what is in the target domain already.
        semantic: A classifier (N, C, H, W) → (N, K) that is to read an image of a and its
            translation alike.
        semantic_weight: The weight of that.
        pairs: Images (a, b) that belong together, (K, C, H, W) each.
        pair_weight: The weight of their mean absolute differences.
        r1: γ, the weight of the zero-centred gradient penalty of both critics.
        engine: "eager" makes the moves one by one; "fx" and "inductor" replay all of them as one
            graph, uncompiled or compiled; "auto" compiles where 20,000 steps or more are to come.
        seed: Seed of all that is drawn in the fit; torch's generators are then left as found. None
            draws from the global generator. Weights were drawn when the modules were made.
        progress: Whether to show a bar; lines, where there is neither a terminal nor a notebook.

    Returns:
        The program, as it was fitted, and how the game went.

    Raises:
        ValueError: If epochs is below 1, a rate or weight is out of range, or translators, critics
            and data do not fit together.
        NotFinite: Before an update, if a loss is not finite.

    Warns:
        RuntimeWarning: Once each, for either direction, if the critic tells all translations from
            data for 1000 steps, or the spread of the translations vanishes.

    Examples:
        >>> from ppl_gen.critics import conv_critic
        >>> from ppl_gen.models import cycle_gan
        >>> _ = torch.manual_seed(0)
        >>> a, b = torch.rand(2, 12, 1, 8, 8)
        >>> critics = conv_critic((1, 8, 8), width=4), conv_critic((1, 8, 8), width=4)
        >>> translators = cycle_gan(a, b, width=4, blocks=1)
        >>> played = fit_cycle(translators, critics, [(a, b)], epochs=3, pairs=(a[:2], b[:2]))
        >>> sorted(played.records[-1].metrics)
        ['critic', 'cycle', 'generator', 'pairs', 'penalty', 'spread']

    Reference:
        Zhu et al. (2017), Unpaired image-to-image translation using cycle-consistent adversarial
        networks.
    """
    expect_counts(epochs=epochs)
    expect_rate(rate, usual=2e-3)
    optimizers = [_adam(module, rate, betas) for module in (program, *critics)]
    falling: list[LRScheduler] = []
    for optimizer in optimizers:
        falling.append(LambdaLR(optimizer, lambda epoch: min(1.0, 2 * (1 - epoch / epochs))))
    with seeded(device_of(program), seed):
        step = cycle_step(
            program,
            critics,
            optimizers[0],
            (optimizers[1], optimizers[2]),
            loss,
            cycle=cycle,
            identity=identity,
            semantic=semantic,
            semantic_weight=semantic_weight,
            pairs=pairs,
            pair_weight=pair_weight,
            r1=r1,
            engine=engine,
        )
        records = fit(step, batches, epochs, progress=progress, scheduler=falling)
    perfect = getattr(loss, "perfect", None)
    if perfect is not None:
        perfect = 2 * perfect  # of two critics
    return GameFit(program, records, perfect)


def _adam(module: Any, rate: float, betas: tuple[float, float]) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), rate, betas=betas, fused=True)


@dataclass(frozen=True, eq=False, repr=False)
class GameFit(Result):
    """How a game went.

    Attributes:
        program: What is to be drawn from: the GAN whose weights are averages over steps, or the
            translators.
        records: What each epoch did, as `fit` returns them.
        perfect: The loss of the critics where they tell all draws from data; None where there is no
            such value.

    Examples:
        >>> from ppl_gen.critics import mlp_critic
        >>> gan, critic = models.gan((2,), latent_dim=2, hidden=[8]), mlp_critic((2,), hidden=[8])
        >>> x, _ = data.ring(100, seed=0)
        >>> found = fit_gan(gan, critic, data.Split(x).batches(50), epochs=2, engine="eager")
        >>> len(found.records), found.program.model(None, n=5).shape
        (2, torch.Size([5, 2]))
    """

    program: Any
    records: list[Record]
    perfect: float | None = None

    @property
    def last(self) -> dict[str, float]:
        """The metrics of the last epoch: the losses, the spread of draws in units of the data's."""
        return self.records[-1].metrics

    @property
    def headline(self) -> str:
        numbers = [f"{name} {value:.3f}" for name, value in self.last.items()]
        return f"after {len(self.records)} epochs: {', '.join(numbers)}"

    @property
    def verdict(self) -> Verdict:
        """Whether the game is lost, which is all that its losses tell.

        Tags: "no-contest" where the critic tells all draws from data, "alike" where draws do not
        differ, and else nothing: draws are to be held against data, by `moments`, `mmd` or
        `precision_recall`.
        """
        findings = []
        if self.perfect is not None and self.last["critic"] < self.perfect + LOST:
            sentence = "the critic tells all draws from data: raise r1, or lower the rate"
            findings.append(Finding("no-contest", sentence))
        if self.last["spread"] < VANISHED:
            sentence = "the draws are all alike: raise r1, lower the rate, or take larger batches"
            findings.append(Finding("alike", sentence))
        passes = None
        if findings:
            passes = False
        return Verdict(tuple(findings), passes=passes)

    def table(self) -> pandas.DataFrame:
        """A row for each metric: its value in the first and in the last epoch."""
        import pandas

        columns = {"first epoch": self.records[0].metrics, "last epoch": self.last}
        return pandas.DataFrame(columns)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each epoch: every metric, and seconds."""
        return by_epoch(self.records)

    def plot(self, title: str = "", ax: Axes | None = None) -> Figure:
        """The losses of both sides against the epoch, see `ppl_gen.plots.games.losses`.

        Args:
            title: Stands above.
            ax: Axes that the picture takes the place of; it is a figure of its own if left out.
        """
        from ppl_gen.plots.games import losses

        return losses(self.records, ("critic", "generator"), title, ax=ax)
