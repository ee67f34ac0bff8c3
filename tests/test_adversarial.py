"""The adversarial step: losses and penalties by their formulas, one side at a time, and games that end where they should."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from programs import digits
from torch import Tensor, nn

from ppl_gen.critics import Critic, conv_critic, mlp_critic, spectral
from ppl_gen.inference import NotFinite, adversarial_step, fit, losses, moving_average
from ppl_gen.inference.watching import Watch
from ppl_gen.likelihoods import Dirac
from ppl_gen.models import CGAN, GAN, cgan, cvae, dcgan, gan, vae
from ppl_gen.nn import Condition
from ppl_gen.priors import StandardNormal
from ppl_gen.program import Observed, simulate
from ppl_gen.ring import modes_covered, ring


def adam(module: nn.Module, lr: float = 1e-3) -> torch.optim.Optimizer:
    return torch.optim.Adam(module.parameters(), lr, betas=(0.0, 0.9), fused=True)


def sgd(module: nn.Module, lr: float = 0.0) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr)


S, T = torch.tensor([0.3, -1.2, 2.0]), torch.tensor([-0.7, 0.1, 1.5])
SIGMOID_S, SIGMOID_T = torch.sigmoid(S), torch.sigmoid(T)
PAIRS = {
    "minimax": (-SIGMOID_S.log().mean() - (1 - SIGMOID_T).log().mean(), (1 - SIGMOID_T).log().mean()),
    "non_saturating": (-SIGMOID_S.log().mean() - (1 - SIGMOID_T).log().mean(), -SIGMOID_T.log().mean()),
    "least_squares": (((S - 1) ** 2).mean() / 2 + (T**2).mean() / 2, ((T - 1) ** 2).mean() / 2),
    "hinge": ((1 - S).clamp(min=0).mean() + (1 + T).clamp(min=0).mean(), -T.mean()),
    "wasserstein": (T.mean() - S.mean(), -T.mean()),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_loss_is_its_formula(name: str) -> None:
    pair, (critic, generator) = getattr(losses, name), PAIRS[name]
    assert float(pair.critic(S, T)) == pytest.approx(float(critic), rel=1e-6)
    assert float(pair.generator(T)) == pytest.approx(float(generator), rel=1e-6)


def test_penalties_of_a_linear_and_a_quadratic_critic() -> None:
    x, drawn = torch.randn(50, 3), torch.randn(50, 3)
    w = torch.tensor([3.0, 0.0, 4.0])
    x.requires_grad_()
    assert losses.r1(x @ w, x).item() == pytest.approx(25 / 2)
    assert losses.gradient_penalty(lambda v: v @ w, x, drawn).item() == pytest.approx((5 - 1) ** 2)
    quadratic = losses.r1(x.square().sum(-1) / 2, x).item()
    assert quadratic == pytest.approx(x.square().sum(-1).mean().item() / 2, rel=1e-6)


class _Line(nn.Module):
    """s(x) = w x + b."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[..., 0]


def _still() -> GAN:
    """x = z ~ N(0, 1)."""
    made = GAN(StandardNormal(1), nn.Linear(1, 1))
    nn.init.ones_(made.decoder.weight)
    nn.init.zeros_(made.decoder.bias)
    return made


def test_the_critic_of_the_minimax_game_finds_the_log_density_ratio() -> None:
    # log N(x; 1, 1) / N(x; 0, 1) = x − 1/2. The averages of w and b over 1000 steps after 1000 have standard errors below
    # √(4/(512 · 1000)) · √τ with τ the some 20 steps in which SGD of this rate forgets.
    program, critic = _still(), _Line()
    step = adversarial_step(program, critic, sgd(program), sgd(critic, 0.2), losses.minimax)
    seen = []
    for _ in range(2000):
        step(1 + torch.randn(512, 1))
        seen.append(torch.cat([critic.net.weight[0], critic.net.bias]).detach())
    w, b = torch.stack(seen[1000:]).mean(0).tolist()
    error = 4 * math.sqrt(4 / (512 * 1000) * 20)
    assert w == pytest.approx(1.0, abs=error)
    assert b == pytest.approx(-0.5, abs=error)


def test_the_penalised_critic_of_wasserstein_finds_the_distance() -> None:
    # W₁ of N(1, 1) from N(0, 1) is 1; λ(‖∇s‖ − 1)² leaves a linear critic the slope 1 + 1/2λ, from any that is positive.
    program, critic = _still(), _Line()
    nn.init.constant_(critic.net.weight, 0.1)
    step = adversarial_step(program, critic, sgd(program), sgd(critic, 0.02), losses.wasserstein, penalty=10.0)
    found = torch.stack([step(1 + torch.randn(512, 1))["critic"] for _ in range(1500)])[500:]
    assert float(-found.mean()) == pytest.approx(1 + 1 / 20, abs=4 * 1.05 * math.sqrt(2 / 512 / 1000))


class _Witness:
    """Copies the state of both sides whenever the critic is called: trained where its parameters want gradients."""

    def __init__(self, program: nn.Module, critic: nn.Module) -> None:
        self.program, self.critic = program, critic
        self.seen: list[tuple[bool, dict[str, Tensor], dict[str, Tensor]]] = []
        critic.register_forward_pre_hook(lambda *_: self.look())

    def look(self) -> None:
        states = [{k: v.clone() for k, v in m.state_dict().items()} for m in (self.program, self.critic)]
        self.seen.append((all(p.requires_grad for p in self.critic.parameters()), states[0], states[1]))


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(v, other[k]) for k, v in one.items())


def test_while_one_side_moves_the_other_stands_still_to_the_last_bit() -> None:
    program, critic = dcgan((1, 8, 8), 4, width=8), spectral(conv_critic((1, 8, 8), width=8, normalise=True))
    step = adversarial_step(program, critic, adam(program), adam(critic), critic_steps=3, r1=0.1)
    x = digits().x[:20]
    step(x)
    witness = _Witness(program, critic)
    step(x)
    witness.look()
    criticised = [program_state for moving, program_state, _ in witness.seen[:-2]]
    tracked = "decoder.1.net.1.num_batches_tracked"
    # The draw that the generator learns from counts in its batch normalisation; those that only the critic sees do not.
    last = [state for state in criticised if state[tracked] == criticised[-1][tracked]]
    assert all(_same(criticised[0], state) for state in criticised[: -len(last)])
    assert all(_same(last[0], state) for state in last)
    learned = {k for k, _ in program.named_parameters()}
    assert all(_same({k: criticised[0][k] for k in learned}, state) for state in criticised)
    before, after = witness.seen[-2], witness.seen[-1]
    assert not before[0]  # the generator's turn
    assert _same(before[2], after[2])
    assert not _same({k: before[1][k] for k in learned}, after[1])
    assert not _same(witness.seen[0][2], before[2])


def test_a_moving_average_is_its_formula() -> None:
    program = gan((2,), 2, hidden=(4,))
    average = moving_average(program, decay=0.5)
    expected = [p.detach().clone() for p in program.parameters()]
    for n in range(5):
        with torch.no_grad():
            for p in program.parameters():
                p += torch.randn_like(p)
        average.update_parameters(program)
        weight = 0.0 if n == 0 else min(0.5, (1 + n) / (10 + n))
        expected = [weight * e + (1 - weight) * p.detach() for e, p in zip(expected, program.parameters(), strict=True)]
    for mine, theirs in zip(average.module.parameters(), expected, strict=True):
        torch.testing.assert_close(mine.data, theirs)
    assert simulate(average.module, 3).shape == (3, 2)


def test_the_spread_is_that_of_the_coordinates_in_which_data_differ() -> None:
    watch = Watch(0.0)
    data = torch.tensor([[0.0, 1.0], [2.0, 1.0]])
    still = torch.tensor([[1.0, 0.0], [1.0, 9.0]])  # alike where data differ, and the reverse
    assert float(watch(torch.tensor(1.0), still, data)["spread"]) == 0.0
    assert float(watch(torch.tensor(1.0), 3 * data, data)["spread"]) == pytest.approx(3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(watch(torch.tensor(1.0), still[:1], data[:1])["spread"]) == 1.0
        assert float(watch(torch.tensor(1.0), still, torch.ones(2, 2))["spread"]) == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_eight_modes_on_a_ring_are_all_found(seed: int) -> None:
    torch.manual_seed(seed)
    program, critic = gan((2,), 2, hidden=(128, 128)), mlp_critic((2,), hidden=(128, 128))
    average = moving_average(program)
    step = adversarial_step(program, critic, adam(program), adam(critic), r1=0.1, average=average)
    for _ in range(3000):
        step(ring(256)[0])
    found = modes_covered(simulate(average.module, 4000))
    assert found.modes == 8
    assert found.share >= 0.9


def _paired(drawn: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    return (drawn["x"] - x).abs().mean()


GAMES: dict[str, Callable[[], tuple[Any, nn.Module, list[Tensor], dict[str, Any]]]] = {
    "gan": lambda: (gan((1, 8, 8), 3, hidden=(8,)), mlp_critic((1, 8, 8), hidden=(8,)), [], {}),
    "gan of vectors": lambda: (gan((2,), 3, hidden=(8,)), mlp_critic((2,), hidden=(8,)), [], {"r1": 1.0}),
    "dcgan": lambda: (dcgan((1, 8, 8), 3, width=4), conv_critic((1, 8, 8), width=4), [], {"loss": losses.hinge}),
    "spectral": lambda: (dcgan((1, 8, 8), 3, width=4), spectral(conv_critic((1, 8, 8), width=4)), [], {}),
    "wasserstein": lambda: (
        gan((1, 8, 8), 3, hidden=(8,)),
        mlp_critic((1, 8, 8), hidden=(8,)),
        [],
        {"loss": losses.wasserstein, "penalty": 10.0, "critic_steps": 5},
    ),
    "cgan, labels": lambda: (
        cgan((1, 8, 8), 3, classes=10, hidden=(8,)),
        mlp_critic((1, 8, 8), classes=10, hidden=(8,)),
        [torch.arange(6)],
        {"r1": 0.1},
    ),
    "cgan, paired images": lambda: (
        cgan((1, 8, 8), 3, attributes=64, embed=nn.Flatten(), hidden=(8,)),
        mlp_critic((1, 8, 8), attributes=64, embed=nn.Flatten(), hidden=(8,)),
        [torch.rand(6, 1, 8, 8)],
        {"auxiliary": _paired},
    ),
    "a vae's mean": lambda: (Observed(vae((1, 8, 8), 3, hidden=(8,)), Dirac()), mlp_critic((1, 8, 8)), [], {}),
    "a vae's mean, with labels that it does not take": lambda: (
        Observed(vae((1, 8, 8), 3, hidden=(8,)), Dirac()),
        mlp_critic((1, 8, 8)),
        [torch.arange(6)],
        {},
    ),
    "a cvae's mean": lambda: (
        Observed(cvae((1, 8, 8), 3, classes=10, hidden=(8,), prior=StandardNormal(3)), Dirac()),
        mlp_critic((1, 8, 8), classes=10),
        [torch.arange(6)],
        {"critic_steps": 2},
    ),
    "a pair of functions": lambda: (
        gan((1, 8, 8), 3, hidden=(8,)),
        mlp_critic((1, 8, 8), hidden=(8,)),
        [],
        {"loss": (lambda real, drawn: drawn.mean() - real.mean() + real.square().mean(), lambda drawn: -drawn.mean())},
    ),
}


@pytest.mark.parametrize("name", GAMES)
def test_parts_combine_freely(name: str) -> None:
    program, critic, context, options = GAMES[name]()
    x = torch.randn(6, 2) if name == "gan of vectors" else digits().x[:6]
    step = adversarial_step(program, critic, adam(program), adam(critic), **options)
    # A bias that moves all scores alike has no gradient under some losses.
    moved = {
        n: p for part in (program, critic) for n, p in part.named_parameters() if p.dim() > 1 and "encoder" not in n
    }
    before = {n: p.detach().clone() for n, p in moved.items()}
    records = fit(step, [(x, *context)], 2, progress=False)
    assert all(math.isfinite(v) for v in records[-1].metrics.values())
    assert {"critic", "generator", "spread"} <= records[-1].metrics.keys()
    assert [n for n, p in moved.items() if torch.equal(p, before[n])] == []


def test_labels_that_the_program_does_not_take_are_left_out() -> None:
    program, critic = gan((1, 8, 8), 3), mlp_critic((1, 8, 8))
    metrics = adversarial_step(program, critic, adam(program), adam(critic))(digits().x[:6], digits().y[:6])
    assert math.isfinite(float(metrics["critic"]))


def test_the_label_reaches_generator_and_critic() -> None:
    program = cgan((2,), 1, classes=2, hidden=(32,))
    critic, average = mlp_critic((2,), classes=2, hidden=(32,)), moving_average(program, 0.99)
    step = adversarial_step(program, critic, adam(program, 5e-3), adam(critic, 5e-3), r1=0.1, average=average)
    centres = torch.tensor([[-1.0, 0.0], [1.0, 0.5]])
    for _ in range(600):
        y = torch.randint(2, (128,))
        step(centres[y] + 0.1 * torch.randn(128, 2), y)
    drawn = simulate(average.module, 1000, torch.arange(1000) % 2)
    nearest = torch.cdist(drawn, centres).argmin(-1)
    assert float((nearest == torch.arange(1000) % 2).float().mean()) > 0.95


def test_a_lost_game_is_said_once() -> None:
    program, critic = gan((2,), 2, hidden=(8,)), mlp_critic((2,), hidden=(32,))
    step = adversarial_step(program, critic, sgd(program), adam(critic, 1e-2))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2100):
            step(10 + torch.randn(64, 2))
    assert [w.category for w in caught] == [RuntimeWarning]
    assert "the critic tells all draws from data" in str(caught[0].message)
    assert "r1=1" in str(caught[0].message)


def test_draws_that_are_all_alike_are_said() -> None:
    program, critic = gan((2,), 2, hidden=(8,)), mlp_critic((2,), hidden=(8,))
    nn.init.zeros_(program.decoder[0][-1].weight)
    step = adversarial_step(program, critic, sgd(program), sgd(critic))
    with pytest.warns(RuntimeWarning, match="the draws are all alike"):
        for _ in range(1050):
            step(torch.randn(64, 2))


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    program, critic = gan((2,), 2, hidden=(8,)), mlp_critic((2,), hidden=(8,))
    bad = (lambda real, drawn: drawn.mean() - real.mean(), lambda drawn: drawn.mean() / 0.0)
    before = {k: v.clone() for k, v in program.state_dict().items()}
    with pytest.raises(NotFinite, match="loss of the generator at step 0"):
        adversarial_step(program, critic, adam(program), adam(critic), bad)(torch.randn(5, 2))
    assert _same(before, program.state_dict())


class _Discrete(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.program = vae((1, 8, 8), 2)
        self.model = self.program.model


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "no critic step": (lambda: _step(critic_steps=0), "expected critic_steps of at least 1, got 0"),
    "a negative penalty": (lambda: _step(r1=-1.0), "expected a finite r1 of at least 0, got -1.0"),
    "a penalty that is not finite": (
        lambda: _step(penalty=math.nan),
        "expected a finite penalty of at least 0, got nan",
    ),
    "data of another shape": (
        lambda: _step()(torch.randn(5, 3)),
        r"the shape that the program draws, \(2,\), got \(3,\)",
    ),
    "no data": (lambda: _step()(torch.randn(0, 2)), "N of at least 1"),
    "data that are not finite": (lambda: _step()(torch.full((5, 2), math.nan)), "expected finite data"),
    "discrete draws": (
        lambda: adversarial_step(_Discrete(), mlp_critic((1, 8, 8)), sgd(_still()), sgd(_still()))(digits().x[:5]),
        r"take Observed\(program, Dirac\(\)\)",
    ),
    "a score for all data at once": (
        lambda: _step(critic=lambda x: x.mean())(torch.randn(5, 2)),
        "expected one row of finite scores for each datum",
    ),
    "no label": (
        lambda: adversarial_step(cgan((2,), 2, classes=3), mlp_critic((2,), classes=3), sgd(_still()), sgd(_still()))(
            torch.randn(5, 2)
        ),
        "expected 1 context tensors",
    ),
    "an optimiser of something else": (
        lambda: adversarial_step(gan((2,), 2), mlp_critic((2,)), sgd(_still()), sgd(_still()))(torch.randn(5, 2)),
        "expected the optimiser of the critic to hold its parameters",
    ),
    "no site x": (lambda: _step(program=_Silent())(torch.randn(5, 2)), r"at a site 'x', got the sites \['z'\]"),
    "a label of the last datum out of range": (
        lambda: adversarial_step(cgan((2,), 2, classes=3), mlp_critic((2,), classes=3), sgd(_still()), sgd(_still()))(
            torch.randn(5, 2), torch.tensor([0, 1, 2, 0, 3])
        ),
        r"^expected labels in 0, …, 2, or −1 where missing, got 0 to 3$",
    ),
    "an embedding without its size": (lambda: mlp_critic((2,), embed=nn.Flatten()), "expected attributes, the length"),
    "a critic of labels and attributes": (
        lambda: conv_critic((1, 8, 8), classes=3, attributes=2),
        "expected either classes or attributes, got classes=3 and attributes=2",
    ),
    "a decay of one": (lambda: moving_average(_still(), 1.0), "expected a decay from 0 to below 1, got 1.0"),
    "labels and an embedding": (
        lambda: Condition(nn.Linear(2, 2), classes=3, embed=nn.Flatten()),
        "expected classes or embed, got both",
    ),
    "labels out of range": (
        lambda: simulate(cgan((2,), 2, classes=3), 2, torch.tensor([0, 3])),
        "expected labels in 0, …, 2",
    ),
    "a cgan of nothing": (lambda: cgan((2,), 2), "expected either classes or attributes"),
}


class _Silent(nn.Module):
    def model(self, x: Tensor | None = None, *, n: int = 1) -> None:
        with pyro.plate("data", n):
            pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))


def _step(critic: Any = None, program: Any = None, **options: Any) -> Any:
    program = program or gan((2,), 2, hidden=(4,))
    critic = critic or mlp_critic((2,), hidden=(4,))
    return adversarial_step(program, critic, sgd(_still()), sgd(_still()), **options)


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    run, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        run()


def test_spectral_normalisation_bounds_the_slope() -> None:
    critic = spectral(mlp_critic((5,), hidden=(32, 32), slope=1.0))
    for _ in range(50):  # a power iteration each
        critic(torch.randn(4, 5))
    critic.eval()
    x, y = 10 * torch.randn(500, 5), 10 * torch.randn(500, 5)
    slope = (critic(x) - critic(y)).abs() / torch.linalg.vector_norm(x - y, dim=-1)
    assert slope.max().item() <= 1.001


def test_features_of_a_critic_are_vectors() -> None:
    for critic in (mlp_critic((1, 8, 8)), conv_critic((1, 8, 8), width=4)):
        assert isinstance(critic, Critic)
        assert critic.features(digits().x[:3]).dim() == 2


def test_a_program_of_one_s_own_is_a_gan() -> None:
    made = CGAN(lambda y: dist.Uniform(-torch.ones(2), torch.ones(2)).to_event(1), Condition(nn.Linear(5, 2), 3))
    assert simulate(made, 4, torch.tensor([0, 1, 2, -1])).shape == (4, 2)


@pytest.mark.cuda
@pytest.mark.parametrize("side", [8, 64])
def test_a_game_runs_on_cuda(side: int) -> None:
    shape = (3, side, side)
    program, critic = dcgan(shape, 10, width=8).cuda(), conv_critic(shape, width=8).cuda()
    average = moving_average(program)
    step = adversarial_step(program, critic, adam(program), adam(critic), r1=0.1, penalty=1.0, average=average)
    for _ in range(60):
        metrics = step(torch.rand(16, *shape, device="cuda"))
    assert all(value.is_cuda and bool(torch.isfinite(value)) for value in metrics.values())
    assert simulate(average.module, 4).is_cuda
