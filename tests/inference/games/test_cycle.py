"""Translation between unpaired domains: the pool, the step, its errors, and two domains whose map
is known.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from programs import digits
from torch import Tensor, nn

from ppl_gen.critics import patch_critic
from ppl_gen.inference import adversarial_step, cycle_errors, cycle_step
from ppl_gen.inference.games.cycle import ImagePool
from ppl_gen.models import CycleGAN, cycle_gan, translator
from ppl_gen.program import simulate


def adam(module: nn.Module, lr: float = 1e-3) -> torch.optim.Optimizer:
    return torch.optim.Adam(module.parameters(), lr, betas=(0.5, 0.999), fused=True)


def _made(count: int = 12) -> tuple[CycleGAN, tuple[nn.Module, nn.Module], Tensor, Tensor]:
    a, b = digits().x[:count], 1 - digits().x[count : 2 * count]
    critics = (patch_critic(1, width=4, layers=1), patch_critic(1, width=4, layers=1))
    return cycle_gan(a, b, width=4, blocks=1), critics, a, b


def _step(program: Any, critics: tuple[nn.Module, nn.Module], **options: Any) -> Any:
    optimizers = (adam(critics[0]), adam(critics[1]))
    return cycle_step(program, critics, adam(program), optimizers, **options)


def test_each_direction_is_a_program_over_the_other_domain() -> None:
    program, _, a, b = _made()
    assert simulate(program.a_to_b, 7).shape == (7, 1, 8, 8)
    with torch.no_grad():
        possible = program.to_a(b)
    drawn = simulate(program.b_to_a, 30)
    distance = (drawn[:, None] - possible).abs().flatten(2).amax(-1)
    assert float(distance.min(1).values.max()) < 1e-5
    assert "a_to_b.prior.x" not in program.state_dict()
    assert len(a) == 12


def test_a_direction_is_fitted_alone_as_any_implicit_program() -> None:
    program, critics, _, b = _made()
    metrics = adversarial_step(program.a_to_b, critics[1], adam(program.a_to_b), adam(critics[1]))(
        b
    )
    assert math.isfinite(float(metrics["generator"]))


def test_an_empty_pool_shows_what_is_new_and_a_full_one_half_of_it() -> None:
    pool = ImagePool(6, (1, 1, 1))
    first = torch.arange(4.0).reshape(4, 1, 1, 1)
    assert torch.equal(pool(first), first)
    assert int(pool.held) == 4
    shown, kept = [], []
    for i in range(200):
        new = torch.arange(4.0).reshape(4, 1, 1, 1) + 4 * (i + 1)
        out = pool(new)
        assert len(out.unique()) == 4
        shown.append(float((out == new).float().mean()))
        kept.append(out.flatten())
    # But for the 6 that filled the pool nothing is shown twice, and images are exchanged with
    # probability one half each.
    later = torch.cat(kept)
    later = later[later >= 6]
    assert len(later.unique()) == len(later)
    assert sum(shown[1:]) / 199 == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(4 * 199))


@pytest.mark.parametrize("seed", range(20))
def test_no_image_is_shown_twice_in_the_batch_that_fills_a_pool(seed: int) -> None:
    torch.manual_seed(seed)
    pool = ImagePool(6, (1, 1, 1))
    pool(torch.arange(4.0).reshape(4, 1, 1, 1))
    assert len(pool(torch.arange(4.0, 8.0).reshape(4, 1, 1, 1)).unique()) == 4


def test_a_pool_of_none_is_no_pool_and_a_batch_may_be_larger_than_a_pool() -> None:
    new = torch.rand(5, 1, 2, 2)
    assert torch.equal(ImagePool(0, (1, 2, 2))(new), new)
    pool = ImagePool(2, (1, 2, 2))
    pool(new)
    assert pool(new).shape == new.shape


def test_the_step_s_losses_are_their_formulas() -> None:
    program, critics, a, b = _made()
    twin, judges = copy.deepcopy(program), copy.deepcopy(critics)
    metrics = _step(program, critics, cycle=3.0, identity=2.0)(a, b)
    with torch.no_grad():
        in_b, in_a = twin.to_b(a), twin.to_a(b)
        lost = ((judges[0](in_a) - 1) ** 2).mean() / 2 + ((judges[1](in_b) - 1) ** 2).mean() / 2
        there_and_back = (
            (twin.to_a(in_b) - a).abs().mean() + (twin.to_b(in_a) - b).abs().mean()
        ) / 2
        left_alone = ((twin.to_b(b) - b).abs().mean() + (twin.to_a(a) - a).abs().mean()) / 2
        half = [((judge(x) - 1) ** 2).mean() / 2 for judge, x in zip(judges, (a, b), strict=True)]
        other = [(judge(x) ** 2).mean() / 2 for judge, x in zip(judges, (in_a, in_b), strict=True)]
    expected = {
        "generator": lost,
        "cycle": there_and_back,
        "identity": left_alone,
        "critic": sum(half) + sum(other),
    }
    for name, value in expected.items():
        assert float(metrics[name]) == pytest.approx(float(value), rel=1e-5), name


def test_critics_stand_still_while_translators_move_and_the_reverse() -> None:
    program, critics, a, b = _made()
    still = torch.optim.SGD([*critics[0].parameters(), *critics[1].parameters()], 0.0)
    before = copy.deepcopy([m.state_dict() for m in critics])
    cycle_step(program, critics, adam(program), (still, still))(a, b)
    for module, state in zip(critics, before, strict=True):
        assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())
    state = copy.deepcopy(program.state_dict())
    optimizers = (adam(critics[0]), adam(critics[1]))
    cycle_step(program, critics, torch.optim.SGD(program.parameters(), 0.0), optimizers)(a, b)
    assert all(torch.equal(v, state[k]) for k, v in program.state_dict().items())
    assert not torch.equal(critics[0][0].weight, before[0]["0.weight"])


def test_a_semantic_loss_trains_the_translator_and_not_the_classifier() -> None:
    program, critics, a, b = _made()
    classifier = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))
    before = copy.deepcopy(classifier.state_dict())
    step = _step(program, critics, semantic=classifier, semantic_weight=100.0)
    history = [float(step(a, b)["semantic"]) for _ in range(60)]
    assert history[-1] < history[0]
    assert all(torch.equal(v, before[k]) for k, v in classifier.state_dict().items())
    assert all(p.requires_grad for p in classifier.parameters())
    assert all(m.training for m in classifier.modules())


def test_cycle_errors_against_the_mean_image() -> None:
    program, _, a, b = _made()
    errors = cycle_errors(program, a, b)
    assert errors.a.value.shape == (12,)
    expected = (a - a.mean(0)).abs().flatten(1).mean(-1)
    torch.testing.assert_close(errors.mean_a.value, expected)
    identity = CycleGAN(lambda: None, lambda: None, nn.Identity(), nn.Identity())
    assert cycle_errors(identity, a, b).ratio == 0.0
    assert list(errors.parts) == ["a", "b", "mean_a", "mean_b"]


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 128, 128)])
def test_translators_keep_the_shape(shape: tuple[int, ...]) -> None:
    net = translator(shape, width=4, blocks=1)
    out = net(torch.rand(2, *shape))
    assert out.shape == (2, *shape)
    assert bool(((out >= 0) & (out <= 1)).all())


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "domains of two sizes": (
        lambda: cycle_gan(torch.rand(4, 1, 8, 8), torch.rand(4, 1, 16, 16)),
        r"one shape \(C, H, W\) in both domains, got \(1, 8, 8\) and \(1, 16, 16\); .*--image-size",
    ),
    "domains of different channels": (
        lambda: cycle_gan(torch.rand(4, 1, 8, 8), torch.rand(4, 3, 8, 8)),
        "one number of channels",
    ),
    "sides that cannot be halved": (
        lambda: translator((1, 66, 64)),
        "expected sides divisible by 4",
    ),
    "vectors": (lambda: translator((5,)), "expected an image shape"),
    "a batch of one domain": (lambda: _step(*_made()[:2])(digits().x[:4]), "expected batches"),
    "a batch of two sizes": (
        lambda: _step(*_made()[:2])(digits().x[:4], torch.rand(4, 1, 16, 16)),
        "expected images of one shape",
    ),
    "a negative weight": (
        lambda: _step(*_made()[:2], cycle=-1.0),
        "expected a finite cycle of at least 0",
    ),
    "a classifier of nothing": (
        lambda: _step(*_made()[:2], semantic=nn.Flatten(0))(digits().x[:4], digits().x[:4]),
        r"logits \(N, classes\)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    run, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        run()


@pytest.mark.cuda
@pytest.mark.parametrize("side", [8, 128])
def test_a_translation_is_trained_on_cuda(side: int) -> None:
    a, b = torch.rand(4, 3, side, side, device="cuda"), torch.rand(4, 3, side, side, device="cuda")
    program, critics = (
        cycle_gan(a, b).cuda(),
        tuple(patch_critic(3, layers=1 + (side > 8)).cuda() for _ in range(2)),
    )
    metrics = _step(program, critics, r1=0.1)(a, b)
    assert all(value.is_cuda and bool(torch.isfinite(value)) for value in metrics.values())
