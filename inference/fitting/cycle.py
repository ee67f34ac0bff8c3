"""Translation between unpaired domains: one update of two translators and two critics on a batch of
each domain.
"""

from __future__ import annotations

__all__ = ["CycleErrors", "ImagePool", "cycle_errors", "cycle_step"]

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ppl_gen.contexts import evaluating, in_evaluation_mode
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.fitting.adversarial import Loss, Opponent, descend, standing_still
from ppl_gen.inference.fitting.losses import least_squares
from ppl_gen.protocols import Step

Translator = Callable[[Tensor], Tensor]


class Translators(Protocol):
    """Two maps between domains a and b, as `ppl_gen.models.CycleGAN` holds them."""

    @property
    def to_a(self) -> Translator: ...

    @property
    def to_b(self) -> Translator: ...


class ImagePool(nn.Module):
    """Remembers translations: the critic is shown, for each new one with probability ½, an older
    one in its place.

    The older one is then replaced by the new. The pool is part of the state_dict, so that a run can
    go on.

    Args:
        size: How many are remembered; 0 shows the new ones as they are.
        shape: The shape of an image.

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

    def forward(self, new: Tensor) -> Tensor:
        """As many images as were given, old and new, without gradients."""
        shown, size = new.detach().clone(), len(self.images)
        before = int(self.held)
        room = min(size - before, len(new))
        self.images[before : before + room] = shown[:room]
        self.held += room
        if room == len(new) or size == 0:
            return shown
        # Distinct places, of images held before this batch: none is shown twice in it.
        places = torch.randperm(before, device=new.device)[: len(new) - room]
        late = torch.arange(room, room + len(places), device=new.device)
        swapped = torch.rand(len(places), device=new.device) < 0.5
        old = self.images[places[swapped]].clone()
        self.images[places[swapped]] = shown[late[swapped]]
        shown[late[swapped]] = old
        return shown


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
    r1: float = 0.0,
    pools: tuple[ImagePool, ImagePool] | None = None,
) -> Step:
    """A step on a batch (a, b): the translators F = to_b and G = to_a descend, then the critics s_b
    and s_a.

    The translators' loss is loss.generator(s_b(F(a))) + loss.generator(s_a(G(b))) + λ (|G(F(a)) −
    a| + |F(G(b)) − b|) + ι (|F(b) − b| + |G(a) − a|), with |·| the mean absolute difference over
    values.

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
        semantic_weight: Its weight.
        r1: γ, the weight of the zero-centred gradient penalty of both critics.
        pools: Of translations into a and into b; 50 of each if left out. Keep them with a
            checkpoint.

    Returns:
        A step with the metrics "generator", "critic" and "penalty" (summed over the two
        directions), "cycle" and "identity" (mean absolute differences in the unit of the images,
        averaged over the directions), "spread", and "semantic", in nats.

    Raises:
        ValueError: If a number is below zero; on the first batch, if the domains differ in shape,
            or translators or critics do not give what they should.
        NotFinite: Before an update, if a loss is not finite.

    Warns:
        RuntimeWarning: As `adversarial_step` does, for each direction.

    Reference:
        Zhu et al. (2017), Unpaired image-to-image translation using cycle-consistent adversarial
        networks, section 3 and 5.
    """
    _expect_weights(cycle=cycle, identity=identity, semantic_weight=semantic_weight)
    opponents = [
        Opponent(critic, optimizer, loss, r1, name=f"critic of {name}")
        for critic, optimizer, name in zip(critics, critic_optimizers, "ab", strict=True)
    ]
    still = [*critics, *([] if semantic is None else [semantic])]
    weights = {
        "generator": 1.0,
        "cycle": 2 * cycle,
        "identity": 2 * identity,
        "semantic": semantic_weight,
    }
    steps, held = 0, pools

    def update_translators(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        in_b, in_a = program.to_b(a), program.to_a(b)
        fooling = loss[1](critics[0](in_a)) + loss[1](critics[1](in_b))
        losses = {
            "generator": fooling,
            **_consistency(program, a, b, in_a, in_b, identity > 0, semantic),
        }
        descend(
            generator_optimizer,
            torch.stack([weights[k] * v for k, v in losses.items()]).sum(),
            "translators",
            steps,
        )
        return (
            in_a.detach(),
            in_b.detach(),
            {name: value.detach() for name, value in losses.items()},
        )

    def step(*batch: Tensor) -> Mapping[str, Tensor]:
        nonlocal steps, held
        if steps == 0:
            _expect_domains(program, critics, semantic, batch)
        a, b = batch
        if held is None:
            held = (ImagePool(50, a.shape[1:]).to(a), ImagePool(50, b.shape[1:]).to(b))
        with standing_still(*still), in_evaluation_mode(semantic):
            in_a, in_b, metrics = update_translators(a, b)
        of_critics = []
        for opponent, real, drawn, pool in zip(opponents, (a, b), (in_a, in_b), held, strict=True):
            lost = opponent.update(steps, real, pool(drawn))
            of_critics.append(lost | opponent.watch(lost["critic"], drawn, real))
        steps += 1
        both = {name: of_critics[0][name] + of_critics[1][name] for name in of_critics[0]}
        return both | metrics | {"spread": both["spread"] / 2}

    return step


def _consistency(
    program: Translators,
    a: Tensor,
    b: Tensor,
    in_a: Tensor,
    in_b: Tensor,
    identity: bool,
    semantic: Callable[[Tensor], Tensor] | None,
) -> dict[str, Tensor]:
    """What binds a translation to its original: the way back, what is there already, and what is
    read.
    """
    losses = {"cycle": (F.l1_loss(program.to_a(in_b), a) + F.l1_loss(program.to_b(in_a), b)) / 2}
    if identity:
        losses["identity"] = (F.l1_loss(program.to_b(b), b) + F.l1_loss(program.to_a(a), a)) / 2
    if semantic is not None:
        losses["semantic"] = F.cross_entropy(semantic(in_b), semantic(a).argmax(-1))
    return losses


class CycleErrors(NamedTuple):
    """Mean absolute differences per value, in the unit of the images, each an `Estimate` (N,) or
    (M,) over data.

    Attributes:
        a: |G(F(a)) − a| of each image of a.
        b: |F(G(b)) − b| of each image of b.
        mean_a: |ā − a|, what an answer that ignores its input loses, ā being the mean image.
        mean_b: |b̄ − b|.
    """

    a: Estimate
    b: Estimate
    mean_a: Estimate
    mean_b: Estimate

    @property
    def ratio(self) -> float:
        """The cycle error in units of the mean image's, the larger of the two directions."""
        pairs = ((self.a, self.mean_a), (self.b, self.mean_b))
        return max(float(error.value.mean() / base.value.mean()) for error, base in pairs)


def cycle_errors(program: Translators, a: Tensor, b: Tensor) -> CycleErrors:
    """How much of an image is lost on the way to the other domain and back.

    Args:
        program: As in `cycle_step`; evaluated in evaluation mode.
        a: (N, C, H, W) images of domain a, best held-out ones.
        b: (M, C, H, W) images of domain b.
    """

    def error(x: Tensor, returned: Tensor) -> Estimate:
        value = (x - returned).abs().flatten(1).mean(-1)
        return Estimate(value, torch.zeros_like(value))

    def there_and_back(x: Tensor, out: Translator, back: Translator) -> Tensor:
        return torch.cat([back(out(part)) for part in x.split(500)])

    with evaluating(program):
        return CycleErrors(
            error(a, there_and_back(a, program.to_b, program.to_a)),
            error(b, there_and_back(b, program.to_a, program.to_b)),
            error(a, a.mean(0)),
            error(b, b.mean(0)),
        )


def _expect_weights(**weights: float) -> None:
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise ValueError(f"expected a finite {name} of at least 0, got {weight}")


def _expect_domains(
    program: Translators,
    critics: tuple[nn.Module, nn.Module],
    semantic: Callable[[Tensor], Tensor] | None,
    batch: tuple[Tensor, ...],
) -> None:
    """Says what is wrong with the domains and the networks, by running each on two images."""
    if len(batch) != 2:
        raise ValueError(f"expected batches (a, b), one of each domain, got {len(batch)} tensors")
    a, b = batch
    if a.shape[1:] != b.shape[1:] or a.dim() != 4:
        raise ValueError(
            f"expected images of one shape (C, H, W) in both domains, got {tuple(a.shape[1:])} "
            f"and {tuple(b.shape[1:])}; bring them to one size (image_size=..., --image-size) and "
            "one number of channels"
        )
    with evaluating(program, *critics, semantic):
        for name, x, out in (("to_b", a, program.to_b), ("to_a", b, program.to_a)):
            if (got := out(x[:2]).shape[1:]) != x.shape[1:]:
                raise ValueError(
                    f"expected {name} to keep the shape {tuple(x.shape[1:])} of an image, got "
                    f"{tuple(got)}"
                )
        for name, x, critic in (("a", a, critics[0]), ("b", b, critics[1])):
            if (scores := critic(x[:2])).shape[:1] != x[:2].shape[:1]:
                raise ValueError(
                    f"expected scores (N, ...) of the critic of {name}, got shape "
                    f"{tuple(scores.shape)}"
                )
        if semantic is not None and (logits := semantic(a[:2])).dim() != 2:
            raise ValueError(
                f"expected semantic to give logits (N, classes), got shape {tuple(logits.shape)}"
            )
