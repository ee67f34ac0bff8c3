"""Translation between unpaired domains.

On a batch of each domain two translators are updated, then two critics.
"""

from __future__ import annotations

__all__ = ["CycleErrors", "ImagePool", "Pairs", "Translators", "cycle_errors", "cycle_step"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ppl_gen.arguments import expect_devices
from ppl_gen.contexts import evaluating, in_evaluation_mode, one_at_a_time
from ppl_gen.counts import expect_at_least, expect_weight
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.engine.turns import Turns
from ppl_gen.inference.estimate import Estimate, summarised
from ppl_gen.inference.expect import expect_optimizers
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.games.game import (
    Loss,
    Opponent,
    Watch,
    not_finite,
    spread_of,
    standing_still,
)
from ppl_gen.inference.games.losses import least_squares
from ppl_gen.inference.reach import warn_of_data_out_of_reach
from ppl_gen.inference.result import Result
from ppl_gen.protocols import Step

if TYPE_CHECKING:
    import pandas

_POOLED = 50  # translations that are remembered, where no pools are given
_AT_ONCE = 500  # images that are translated there and back in one go

Translator = Callable[[Tensor], Tensor]
# Images of a and of b that belong together, (K, C, H, W) each.
Pairs = tuple[Tensor, Tensor]


class Translators(Protocol):
    """Two maps between domains a and b, as `ppl_gen.models.CycleGAN` holds them."""

    @property
    def to_a(self) -> Translator: ...

    @property
    def to_b(self) -> Translator: ...


class ImagePool(nn.Module):
    """A memory of translations: half of what the critic is shown are older ones.

    Each new translation is shown with probability ½; else an older one is, whose place it takes.
    The pool is part of the state_dict, so that a run can go on.

    Args:
        size: How many are remembered; 0 shows the new ones as they are.
        shape: The shape of an image, (C, H, W).

    Attributes:
        images: What is remembered, (size, C, H, W).
        held: How many of these are filled, a Long scalar.

    Reference:
        Shrivastava et al. (2017), Learning from simulated and unsupervised images through
        adversarial training, section 2.3.
    """

    images: Tensor
    held: Tensor

    def __init__(self, size: int, shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("held", torch.zeros((), dtype=torch.long))
        # Whether it is known to be full, and need not be asked: asking waits for the device.
        self._is_full = False
        self.register_load_state_dict_post_hook(_ask_again)

    @property
    def is_full(self) -> bool:
        """Whether it remembers as many as it can."""
        if not self._is_full:
            self._is_full = int(self.held) == len(self.images)
        return self._is_full

    def forward(self, new: Tensor) -> Tensor:
        """As many images as were given, old and new, without gradients.

        Args:
            new: Translations (N, C, H, W).
        """
        shown = new.detach().clone()
        size = len(self.images)
        before = size
        if not self.is_full:
            before = int(self.held)
        room = min(size - before, len(new))
        self._is_full = before + room == size
        self.images[before : before + room] = shown[:room]
        if room:
            self.held += room
        if room == len(new) or size == 0:
            return shown
        # Distinct places, of images held before this batch: none is shown twice in it.
        places = torch.randperm(before, device=new.device)[: len(new) - room]
        late = slice(room, room + len(places))
        is_swapped = torch.rand(len(places), device=new.device) < 0.5
        is_swapped = is_swapped.reshape(-1, *[1] * (new.dim() - 1))
        old = self.images[places]
        fresh = shown[late]
        self.images[places] = torch.where(is_swapped, fresh, old)
        shown[late] = torch.where(is_swapped, old, fresh)
        return shown


def _ask_again(pool: Any, keys: Any) -> None:
    """What was loaded into a pool may be less than it held."""
    pool._is_full = False


def cycle_step(
    program: Translators,
    critics: tuple[nn.Module, nn.Module],
    generator_optimizer: torch.optim.Optimizer,
    critic_optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer],
    loss: Loss = least_squares,
    *,
    cycle: float = 10.0,
    identity: float = 5.0,
    semantic: Callable[[Tensor], Tensor] | None = None,
    semantic_weight: float = 1.0,
    pairs: Pairs | None = None,
    pair_weight: float = 10.0,
    r1: float = 0.0,
    pools: tuple[ImagePool, ImagePool] | None = None,
    first_step: int = 0,
    engine: Engine = "auto",
    steps: int | None = None,
) -> Step:
    """A step on a batch (a, b): the translators F = to_b and G = to_a descend, then the critics.

    The translators' loss is loss.generator(s_b(F(a))) + loss.generator(s_a(G(b))) + λ (|G(F(a)) −
    a| + |F(G(b)) − b|) + ι (|F(b) − b| + |G(a) − a|), with |·| the mean absolute difference over
    values, s_a and s_b the critics' scores.

    Args:
        program: A CycleGAN, or anything with translators `to_a` and `to_b`.
        critics: (s_a, s_b), scores of shape (N, ...), one per patch or per image.
        generator_optimizer: Of both translators' parameters.
        critic_optimizers: Of s_a's and of s_b's.
        loss: What the two sides descend.
        cycle: λ, the weight of cycle consistency.
        identity: ι, the weight of leaving alone what is in the target domain already.
        semantic: A classifier of domain a, the labelled one, giving logits (N, K): the translation
            F(a) is to be read as a is. Adds the cross-entropy of semantic(F(a)) from the class that
            semantic(a) finds (Hoffman et al. 2018, CyCADA, eq. 4, on the labelled domain only). It
            is called in evaluation mode and not trained. It has to read both domains: one that
            reads a alone is wrong about translations, and misleads.
        semantic_weight: The weight of that cross-entropy.
        pairs: Images (a, b) that are known to belong together, (K, C, H, W) each, besides those
            without pairs. Adds |F(a) − b| + |G(b) − a| over them: distributions and cycles are the
            same under other maps too, and a few pairs can say which one is meant.
        pair_weight: The weight of these differences.
        r1: γ, the weight of the zero-centred gradient penalty γ/2 E‖∇s‖² of both critics.
        pools: Of translations into a and into b; 50 of each if left out. Keep them with a
            checkpoint.
        first_step: The index of the first step, above 0 where a fit goes on.
        engine: "eager" makes the moves one by one. "fx" and "inductor" replay all of them as one
            graph, uncompiled or compiled, with the same random numbers, for Adam and AdamW and once
            the pools are full. "auto" compiles where 20,000 steps or more are to come or were made.
        steps: How many steps are to come, if known.

    Returns:
        A step with the metrics "generator", "critic" and "penalty" (summed over the two
        directions), "cycle", "identity" and "pairs" (mean absolute differences in the unit of the
        images, averaged over the directions), "spread" (the standard deviation of translations in
        units of that of data, averaged over the directions), and "semantic", in nats.

    Raises:
        ValueError: If a weight is negative or not finite; on the first batch, if the domains differ
            in shape, or translators, critics or classifier give tensors of another shape than they
            should.
        NotFinite: Before an update, if a loss is not finite.

    Warns:
        RuntimeWarning: Once each, for either direction, if the critic tells all translations from
            data for 1000 steps, or the spread of the translations vanishes; on the first batch, if
            a domain lies where the last layer of the translator into it never ends.

    Examples:
        >>> from ppl_gen.critics import patch_critic
        >>> a = torch.rand(4, 1, 8, 8)
        >>> program = models.cycle_gan(a, 1 - a, width=4, blocks=1)
        >>> critics = (patch_critic(1, width=4, layers=1), patch_critic(1, width=4, layers=1))
        >>> adam = [torch.optim.Adam(net.parameters(), 1e-3) for net in (program, *critics)]
        >>> step = cycle_step(program, critics, adam[0], (adam[1], adam[2]), engine="eager")
        >>> sorted(step(a, 1 - a))
        ['critic', 'cycle', 'generator', 'identity', 'spread']

    Reference:
        Zhu et al. (2017), Unpaired image-to-image translation using cycle-consistent adversarial
        networks, section 3 and 5.
    """
    expect_weight(
        cycle=cycle,
        identity=identity,
        semantic_weight=semantic_weight,
        pair_weight=pair_weight,
    )
    expect_at_least(0, first_step=first_step, steps=steps)
    critic_a, critic_b = critics
    optimizer_a, optimizer_b = critic_optimizers
    turns = Turns(
        {
            "translators": generator_optimizer,
            "critic of a": optimizer_a,
            "critic of b": optimizer_b,
        },
        engine=engine,
        steps=steps,
        first_step=first_step,
        failure=not_finite,
    )
    opponents = (
        Opponent(critic_a, turns, loss, r1, name="critic of a"),
        Opponent(critic_b, turns, loss, r1, name="critic of b"),
    )
    watches = [Watch(getattr(loss, "perfect", None)) for _ in opponents]
    generator_loss = loss[1]
    weights = {
        "generator": 1.0,
        "cycle": 2 * cycle,
        "identity": 2 * identity,
        "semantic": semantic_weight,
        "pairs": 2 * pair_weight,
    }
    memories = pools

    def translator_losses(a: Tensor, b: Tensor, in_a: Tensor, in_b: Tensor) -> dict[str, Tensor]:
        to_a, to_b = program.to_a, program.to_b
        losses = {
            "generator": generator_loss(critic_a(in_a)) + generator_loss(critic_b(in_b)),
            "cycle": (F.l1_loss(to_a(in_b), a) + F.l1_loss(to_b(in_a), b)) / 2,
        }
        if identity > 0:
            losses["identity"] = (F.l1_loss(to_b(b), b) + F.l1_loss(to_a(a), a)) / 2
        if semantic is not None:
            losses["semantic"] = F.cross_entropy(semantic(in_b), semantic(a).argmax(-1))
        if pairs is not None:
            known_a, known_b = pairs
            off = F.l1_loss(to_b(known_a), known_b) + F.l1_loss(to_a(known_b), known_a)
            losses["pairs"] = off / 2
        return losses

    def update_translators(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        with standing_still(critic_a, critic_b, semantic), in_evaluation_mode(semantic):
            in_b = program.to_b(a)
            in_a = program.to_a(b)
            losses = translator_losses(a, b, in_a, in_b)
            weighted = [weights[name] * value for name, value in losses.items()]
            turns.descend("translators", torch.stack(weighted).sum())
        metrics = {name: value.detach() for name, value in losses.items()}
        return in_a.detach(), in_b.detach(), metrics

    def play(a: Tensor, b: Tensor) -> dict[str, Tensor]:
        assert memories is not None
        in_a, in_b, metrics = update_translators(a, b)
        directions = zip("ab", opponents, (a, b), (in_a, in_b), memories, strict=True)
        for side, opponent, real, drawn, memory in directions:
            of_critic = opponent.update(real, memory(drawn))
            of_critic["spread"] = spread_of(drawn, real)
            metrics |= {f"{name} of {side}": value for name, value in of_critic.items()}
        return metrics

    def begin(batch: tuple[Tensor, ...]) -> None:
        nonlocal memories
        expect_optimizers(generator_optimizer, *critic_optimizers)
        _expect_domains(program, critics, semantic, batch)
        a, b = batch
        if pairs is not None:
            _expect_pairs(pairs, a)
        _warn_of_data_out_of_reach(program, a, b)
        if memories is None:
            shape = a.shape[1:]
            memories = (ImagePool(_POOLED, shape).to(a), ImagePool(_POOLED, shape).to(b))
        turns.begin(program, *critics, semantic, *memories, *loss[:2])

    @one_at_a_time
    def step(*batch: Tensor) -> Mapping[str, Tensor]:
        if turns.is_first:
            begin(batch)
        assert memories is not None
        are_full = all(memory.is_full for memory in memories)
        metrics = turns(play, *batch, is_steady=are_full)
        for side, watch in zip("ab", watches, strict=True):
            watch(metrics[f"critic of {side}"], metrics[f"spread of {side}"])
        return _of_both_directions(metrics)

    return step


def _of_both_directions(metrics: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Metrics of a and b made one: summed, but the spread, which is averaged."""
    merged = {}
    for name, value in metrics.items():
        stem = name.removesuffix(" of a")
        if stem != name:
            merged[stem] = value + metrics[f"{stem} of b"]
        elif not name.endswith(" of b"):
            merged[name] = value
    merged["spread"] = merged["spread"] / 2
    return merged


@dataclass(frozen=True, eq=False, repr=False)
class CycleErrors(Result):
    """Mean absolute differences per value, in the unit of the images: estimates per datum.

    Attributes:
        a: |G(F(a)) − a| of each image of a, (N,).
        b: |F(G(b)) − b| of each image of b, (M,).
        mean_a: |ā − a|, what an answer that ignores its input loses, ā being the mean image, (N,).
        mean_b: |b̄ − b|, (M,).

    Examples:
        >>> a = torch.rand(20, 1, 8, 8)
        >>> program = models.cycle_gan(a, 1 - a, width=4, blocks=1)
        >>> found = cycle_errors(program, a, 1 - a)
        >>> found.a.value.shape, found.ratio > 0
        (torch.Size([20]), True)
    """

    a: Estimate
    b: Estimate
    mean_a: Estimate
    mean_b: Estimate

    @property
    def ratio(self) -> float:
        """The cycle error in units of the mean image's, the larger of the two directions."""
        of_a = float(self.a.value.mean() / self.mean_a.value.mean())
        of_b = float(self.b.value.mean() / self.mean_b.value.mean())
        return max(of_a, of_b)

    @property
    def verdict(self) -> Verdict:
        """Whether an image is found again better than by an answer that ignores it.

        Tags: "returns", which passes, or "lost".
        """
        lost = f"the way there and back loses {self.ratio:.2g} of what the mean image loses"
        if self.ratio < 1:
            return Verdict((Finding("returns", lost),), passes=True)
        sentence = f"{lost}: it ignores its input; train longer, or weigh the cycle more"
        return Verdict((Finding("lost", sentence),), passes=False)

    def table(self) -> pandas.DataFrame:
        """A row for each mean absolute difference: its average over images."""
        return summarised(self.parts)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each image, indexed by its domain and number, with both differences."""
        import pandas

        a = {"error": self.a.value.cpu().numpy(), "of the mean": self.mean_a.value.cpu().numpy()}
        b = {"error": self.b.value.cpu().numpy(), "of the mean": self.mean_b.value.cpu().numpy()}
        parts = {"a": pandas.DataFrame(a), "b": pandas.DataFrame(b)}
        return pandas.concat(parts, names=["domain", "image"])

    @property
    def parts(self) -> dict[str, Estimate]:
        """All four by name."""
        return {"a": self.a, "b": self.b, "mean_a": self.mean_a, "mean_b": self.mean_b}

    @property
    def headline(self) -> str:
        """The four averages over images, with the spread over images as their errors."""
        numbers = []
        for name, part in self.parts.items():
            mean = part.mean()
            numbers.append(f"{name} {mean.value:.3f} ± {mean.sampling_error:.3f}")
        return ", ".join(numbers)


def cycle_errors(program: Translators, a: Tensor, b: Tensor) -> CycleErrors:
    """How much of an image is lost on the way to the other domain and back.

    Args:
        program: A CycleGAN, or anything with translators `to_a` and `to_b`; run in evaluation mode.
        a: (N, C, H, W) images of domain a, best held-out ones.
        b: (M, C, H, W) images of domain b.

    Examples:
        >>> a = torch.rand(20, 1, 8, 8)
        >>> program = models.cycle_gan(a, 1 - a, width=4, blocks=1)
        >>> cycle_errors(program, a, 1 - a).a.value.shape
        torch.Size([20])
    """
    with evaluating(program):
        return CycleErrors(
            a=_difference(a, _there_and_back(a, program.to_b, program.to_a)),
            b=_difference(b, _there_and_back(b, program.to_a, program.to_b)),
            mean_a=_difference(a, a.mean(0)),
            mean_b=_difference(b, b.mean(0)),
        )


def _there_and_back(x: Tensor, there: Translator, back: Translator) -> Tensor:
    return torch.cat([back(there(part)) for part in x.split(_AT_ONCE)])


def _difference(x: Tensor, other: Tensor) -> Estimate:
    """The mean absolute difference of each image from another, without Monte Carlo error, (N,)."""
    value = (x - other).abs().flatten(1).mean(-1)
    return Estimate(value, torch.zeros_like(value))


def _expect_pairs(pairs: Pairs, a: Tensor) -> None:
    """Raises ValueError unless these are images like those of a batch, as many of each domain."""
    known_a, known_b = pairs
    expect_devices((), (a, *pairs))
    if known_a.shape != known_b.shape or known_a.shape[1:] != a.shape[1:] or not len(known_a):
        raise ValueError(
            f"expected pairs (a, b) of images (K, {', '.join(map(str, a.shape[1:]))}) each, got "
            f"{tuple(known_a.shape)} and {tuple(known_b.shape)}"
        )


def _expect_domains(
    program: Translators,
    critics: tuple[nn.Module, nn.Module],
    semantic: Callable[[Tensor], Tensor] | None,
    batch: tuple[Tensor, ...],
) -> None:
    """Raises ValueError unless the networks give the right shapes for two images of each domain."""
    if len(batch) != 2:
        raise ValueError(f"expected batches (a, b), one of each domain, got {len(batch)} tensors")
    expect_devices((program, *critics, semantic), batch)
    a, b = batch
    if a.shape[1:] != b.shape[1:] or a.dim() != 4:
        raise ValueError(
            f"expected images of one shape (C, H, W) in both domains, got {tuple(a.shape[1:])} "
            f"and {tuple(b.shape[1:])}; bring them to one size (image_size=..., --image-size) and "
            "one number of channels"
        )
    with evaluating(program, *critics, semantic):
        _expect_translator("to_b", program.to_b, a[:2])
        _expect_translator("to_a", program.to_a, b[:2])
        _expect_scores("a", critics[0], a[:2])
        _expect_scores("b", critics[1], b[:2])
        if semantic is not None:
            _expect_logits(semantic, a[:2])


def _warn_of_data_out_of_reach(program: Translators, a: Tensor, b: Tensor) -> None:
    """Warns if a domain lies where the last layer of the translator into it never ends."""
    with evaluating(program), torch.enable_grad():
        warn_of_data_out_of_reach(program.to_b(a[:2]), b, "to_b")
        warn_of_data_out_of_reach(program.to_a(b[:2]), a, "to_a")


def _expect_translator(name: str, translator: Translator, x: Tensor) -> None:
    shape = translator(x).shape[1:]
    if shape != x.shape[1:]:
        raise ValueError(
            f"expected {name} to keep the shape {tuple(x.shape[1:])} of an image, got "
            f"{tuple(shape)}"
        )


def _expect_scores(name: str, critic: nn.Module, x: Tensor) -> None:
    shape = critic(x).shape
    if shape[:1] != x.shape[:1]:
        raise ValueError(
            f"expected scores (N, ...) of the critic of {name}, got shape {tuple(shape)}"
        )


def _expect_logits(semantic: Callable[[Tensor], Tensor], x: Tensor) -> None:
    shape = semantic(x).shape
    if len(shape) != 2:
        raise ValueError(f"expected semantic to give logits (N, classes), got shape {tuple(shape)}")
