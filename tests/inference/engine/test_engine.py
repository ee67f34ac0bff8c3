"""The engine: a replayed graph gives what the program gives, and notices when the program has
become another one.
"""

from __future__ import annotations

import copy
import shutil
import warnings
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import ELBO, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal
from torch import Tensor, nn

from ppl_gen import data
from ppl_gen.guides import DiagonalGaussian, automatic
from ppl_gen.inference import NotFinite, log_evidence, svi_step
from ppl_gen.inference.engine.graphs import trace
from ppl_gen.inference.engine.replay import Engine, Replay, plan
from ppl_gen.inference.fitting.objectives import (
    IWAE,
    AnalyticELBO,
    DReG,
    FreeBits,
    StickingTheLanding,
)
from ppl_gen.likelihoods import Bernoulli
from ppl_gen.models import VAE, conv_vae, cvae, vae
from ppl_gen.nn import mlp
from ppl_gen.priors import StandardNormal
from ppl_gen.program import register

MODELS: dict[str, Callable[[], nn.Module]] = {
    "vae": lambda: vae((1, 8, 8), 3, hidden=(16,)),
    "cvae": lambda: cvae((1, 8, 8), 3, classes=10, hidden=(16,)),
    "conv-vae": lambda: conv_vae((1, 8, 8), 3),
}
OBJECTIVES: dict[str, tuple[Callable[[], ELBO], dict[str, Any]]] = {
    "ELBO": (Trace_ELBO, {}),
    "ELBO, analytic KL": (TraceMeanField_ELBO, {}),
    "ELBO, 4 particles": (lambda: Trace_ELBO(num_particles=4), {}),
    "ELBO, 4 particles at once": (
        lambda: Trace_ELBO(num_particles=4, vectorize_particles=True, max_plate_nesting=1),
        {},
    ),
    "β = 4": (Trace_ELBO, {"beta": 4.0}),
    "β in steps": (Trace_ELBO, {"beta": lambda i: 0.5 + i}),
    "clipped": (Trace_ELBO, {"clip": 0.1}),
    "IWAE": (lambda: IWAE(num_particles=3), {}),
    "DReG": (lambda: DReG(num_particles=3), {}),
    "sticking the landing": (StickingTheLanding, {}),
    "analytic ELBO": (AnalyticELBO, {}),
    "free bits": (lambda: FreeBits(0.1), {}),
    "IWAE, β = ½": (lambda: IWAE(num_particles=3), {"beta": 0.5}),
}
PAIRS = [(m, o) for m in MODELS for o in OBJECTIVES]
# Half a minute each where nothing was compiled before; tests of updates compile whole steps.
COMPILED = [("cvae", "ELBO"), *(("vae", o) for o in OBJECTIVES), ("conv-vae", "ELBO")]

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="inductor needs a C++ compiler"
)


def batch(count: int = 6) -> tuple[Tensor, Tensor]:
    digits = data.load("digits", binarize="threshold").train
    return digits.x[:count], digits.y[:count]


def step_from(
    model: str, objective: str, engine: Engine, optimizer: Callable[..., Any], steps: int = 1
) -> tuple[nn.Module, Any, list[dict[str, Tensor]]]:
    torch.manual_seed(0)
    program = MODELS[model]()
    elbo, options = OBJECTIVES[objective]
    used = optimizer(program.parameters())
    step = svi_step(program, used, elbo(), engine=engine, **options)
    torch.manual_seed(1)
    return program, used, [dict(step(*batch())) for _ in range(steps)]


sgd = partial(torch.optim.SGD, lr=0.1)
adam = partial(torch.optim.Adam, lr=1e-2)


@pytest.mark.parametrize(("model", "objective"), PAIRS)
def test_traced_gradients_are_the_untraced_ones_bit_for_bit(model: str, objective: str) -> None:
    expected, _, said = step_from(model, objective, "eager", sgd)
    program, _, got = step_from(model, objective, "fx", sgd)
    torch.testing.assert_close(got, said)
    for p, q in zip(program.parameters(), expected.parameters(), strict=True):
        assert p.grad is not None
        assert torch.equal(p.grad, q.grad)
        assert torch.equal(p, q)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(("model", "objective"), COMPILED)
def test_compiled_gradients_are_the_untraced_ones_to_rounding(model: str, objective: str) -> None:
    """The same random numbers, so the same loss; sums may be taken in another order."""
    expected, _, said = step_from(model, objective, "eager", sgd)
    program, _, got = step_from(model, objective, "inductor", sgd)
    torch.testing.assert_close(got, said)
    for p, q in zip(program.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-5)


OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "Adam": adam,
    "Adam, L2": partial(torch.optim.Adam, lr=1e-2, weight_decay=0.1),
    "AdamW, fused": partial(torch.optim.AdamW, lr=1e-2, betas=(0.5, 0.9), eps=1e-4, fused=True),
    "Adam, two groups": lambda p: torch.optim.Adam(
        [{"params": [q], "lr": 1e-2 / (i + 1)} for i, q in enumerate(p)]
    ),
}


@needs_compiler
@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        "AdamW, fused",
        *(pytest.param(n, marks=pytest.mark.slow) for n in OPTIMISERS if n != "AdamW, fused"),
    ],
)
def test_the_compiled_update_is_torch_s(name: str) -> None:
    expected, reference, _ = step_from("vae", "clipped", "eager", OPTIMISERS[name], steps=4)
    program, optimizer, _ = step_from("vae", "clipped", "inductor", OPTIMISERS[name], steps=4)
    for p, q in zip(program.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)
    for a, b in zip(optimizer.state.values(), reference.state.values(), strict=True):
        assert a["step"] == b["step"] == 4
        torch.testing.assert_close(a["exp_avg_sq"], b["exp_avg_sq"], rtol=1e-3, atol=1e-8)


@needs_compiler
@pytest.mark.slow
def test_the_compiled_update_follows_a_schedule_and_a_restored_state() -> None:
    program = vae((1, 8, 8), 2, hidden=(8,))
    optimizer = adam(program.parameters())
    step = svi_step(program, optimizer, engine="inductor")
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: float(i < 2))
    with warnings.catch_warnings(action="error"):
        for _ in range(2):
            step(*batch())
            schedule.step()
    before = [p.detach().clone() for p in program.parameters()]
    step(*batch())
    assert all(
        torch.equal(p, q) for p, q in zip(program.parameters(), before, strict=True)
    )  # the rate is zero
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(*batch())
    assert {float(s["step"]) for s in optimizer.state.values()} == {4.0}
    optimizer.state.clear()
    step(*batch())
    assert {float(s["step"]) for s in optimizer.state.values()} == {1.0}
    called = []
    optimizer.register_step_post_hook(lambda *args: called.append(args))
    step(*batch())
    assert len(called) == 1


@pytest.mark.long
@needs_compiler
def test_a_step_that_is_not_finite_changes_nothing() -> None:
    program = vae((1, 8, 8), 2, hidden=(8,))
    optimizer = adam(program.parameters())
    step = svi_step(program, optimizer, engine="inductor")
    step(*batch())
    with torch.no_grad():
        next(program.decoder.parameters()).fill_(torch.nan)
    before = [p.detach().clone() for p in program.parameters()]
    with pytest.raises(NotFinite, match="at step 1"):
        step(*batch())
    for p, q in zip(program.parameters(), before, strict=True):
        torch.testing.assert_close(p.detach(), q, rtol=0, atol=0, equal_nan=True)
    assert {float(s["step"]) for s in optimizer.state.values()} == {1.0}


@pytest.mark.long
@pytest.mark.parametrize("engine", ["fx", pytest.param("inductor", marks=needs_compiler)])
def test_any_batch_size(engine: Engine) -> None:
    """A last batch of another size, and sizes that agree with other sizes, get the loss that they
    should.
    """
    program = vae((1, 8, 8), 3, hidden=(16,))
    steps = {
        e: svi_step(program, torch.optim.SGD(program.parameters(), 0.0), engine=e)
        for e in ("eager", engine)
    }
    for count in (6, 5, 16, 3, 1, 6, 64):
        seen = []
        for step in steps.values():
            torch.manual_seed(count)
            seen.append(step(*batch(count)))
        torch.testing.assert_close(seen[1], seen[0])


@pytest.mark.parametrize(
    "engine", ["fx", pytest.param("inductor", marks=[needs_compiler, pytest.mark.slow])]
)
def test_buffers_are_updated_as_they_are_untraced(engine: Engine) -> None:
    programs = []
    for e in ("eager", engine):
        torch.manual_seed(0)
        normed = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
        program = VAE(StandardNormal(2), mlp([2, 4]), Bernoulli(), DiagonalGaussian(normed))
        step = svi_step(program, sgd(program.parameters()), engine=e)
        torch.manual_seed(1)
        for _ in range(3):
            step(torch.ones(8, 4).bernoulli(0.5))
        programs.append(program)
    torch.testing.assert_close(
        programs[1].state_dict(), programs[0].state_dict(), rtol=1e-4, atol=1e-5
    )


def test_what_an_objective_does_at_its_first_call_is_no_part_of_the_graph() -> None:
    """Pyro's vectorised particles run the model once to count its plates, and draw random numbers
    doing so.
    """
    program = vae((1, 8, 8), 2, hidden=(8,))
    step = svi_step(
        program,
        sgd(program.parameters()),
        Trace_ELBO(num_particles=2, vectorize_particles=True),
        engine="fx",
    )
    with warnings.catch_warnings(action="error"):
        for _ in range(4):
            assert step(*batch())["elbo"].isfinite()


def test_modules_that_are_shared_and_tied_parameters() -> None:
    """The guide is the program's, the decoder's weight that of the encoder: each is trained once,
    and stays what it was.
    """
    programs = []
    for engine in ("eager", "fx"):
        torch.manual_seed(0)
        encoder, decoder = nn.Linear(4, 4), nn.Linear(2, 4)
        decoder.bias = encoder.bias
        program = VAE(StandardNormal(2), decoder, Bernoulli(), DiagonalGaussian(encoder))
        held = [id(p) for p in program.parameters()]
        step = svi_step(program, sgd(program.parameters()), guide=program.guide, engine=engine)
        torch.manual_seed(1)
        for _ in range(3):
            step(torch.ones(8, 4))
        assert [id(p) for p in program.parameters()] == held
        programs.append(program)
    torch.testing.assert_close(programs[1].state_dict(), programs[0].state_dict())


def test_a_number_that_the_program_holds_may_change() -> None:
    """A temperature annealed in Python is baked into a graph: the change is seen at the next
    comparison, and told.
    """

    class Tempered(VAE):
        temperature = 1.0

        def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
            with pyro.plate("data", n if x is None else x.shape[0]):
                z = pyro.sample("z", self.prior())
                logits = self.decoder(z) / self.temperature
                return pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    program = Tempered(StandardNormal(2), mlp([2, 4]), Bernoulli(), DiagonalGaussian(mlp([4, 4])))
    step = svi_step(program, torch.optim.SGD(program.parameters(), 0.0), engine="fx")
    eager = svi_step(program, torch.optim.SGD(program.parameters(), 0.0), engine="eager")
    x = torch.ones(8, 4)
    step(x)
    program.temperature = 0.01
    with pytest.warns(RuntimeWarning, match="the objective has changed since it was traced"):
        torch.manual_seed(0)
        got = step(x)
    torch.manual_seed(0)
    torch.testing.assert_close(got, eager(x))


@pytest.mark.long
def test_a_number_that_changes_all_the_time_leaves_the_engine() -> None:
    class Tempered(VAE):
        temperature = 1.0

        def __init__(self) -> None:
            super().__init__(
                StandardNormal(2), mlp([2, 4]), Bernoulli(), DiagonalGaussian(mlp([4, 4]))
            )
            self.temperature = 1.0

        def guide(self, x: Tensor) -> Tensor:
            with pyro.plate("data", x.shape[0]):
                return pyro.sample("z", dist.Normal(torch.zeros(2), self.temperature).to_event(1))

    program = Tempered()
    steps = [
        svi_step(program, torch.optim.SGD(program.parameters(), 0.0), engine=e)
        for e in ("fx", "eager")
    ]
    with pytest.warns(
        RuntimeWarning, match="numbers of the program or the optimiser change all the time"
    ):
        for i in range(12):
            program.temperature = 1.0 + i
            seen = []
            for step in steps:
                torch.manual_seed(i)
                seen.append(step(torch.ones(8, 4)))
            torch.testing.assert_close(seen[0], seen[1])


@pytest.mark.parametrize("engine", ["eager", "fx"])
def test_other_parameters_than_the_step_was_built_with_are_refused(engine: Engine) -> None:
    for change in ("group", "weight"):
        program = vae((1, 8, 8), 2, hidden=(8,))
        optimizer = sgd(program.encoder.parameters())
        step = svi_step(program, optimizer, engine=engine)
        step(*batch())
        if change == "group":
            optimizer.add_param_group({"params": list(program.decoder.parameters())})
        else:
            program.load_state_dict(vae((1, 8, 8), 2, hidden=(8,)).state_dict(), assign=True)
        with pytest.raises(
            ValueError, match="expected the parameters that the step was built with"
        ):
            step(*batch())


def test_a_buffer_that_is_replaced_in_forward_runs_eagerly() -> None:
    class Averaged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(4, 4)
            self.register_buffer("average", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.average = 0.5 * self.average + x.mean()
            return self.net(x) + self.average

    programs = []
    for engine in ("eager", "fx"):
        torch.manual_seed(0)
        program = VAE(StandardNormal(2), mlp([2, 4]), Bernoulli(), DiagonalGaussian(Averaged()))
        step = svi_step(program, sgd(program.parameters()), engine=engine)
        torch.manual_seed(1)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for _ in range(3):
                step(torch.ones(8, 4))
        assert [("another tensor" in str(w.message)) for w in told] == (
            [True] if engine == "fx" else []
        )
        programs.append(program)
    torch.testing.assert_close(
        programs[1].encoder.net.net.weight, programs[0].encoder.net.net.weight
    )


def test_batches_of_one_shape_and_other_strides() -> None:
    program = vae((8, 8), 2, hidden=(8,))
    step = svi_step(program, torch.optim.SGD(program.parameters(), 0.0), engine="fx")
    x = torch.rand(6, 8, 8).round()
    step(x)
    torch.manual_seed(0)
    expected = step(x.transpose(1, 2).contiguous())
    torch.manual_seed(0)
    torch.testing.assert_close(step(x.transpose(1, 2)), expected)


def test_a_plain_pyro_model_is_a_program() -> None:
    def model(y: Tensor) -> None:
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        with pyro.plate("data", y.shape[0]):
            pyro.sample("y", dist.Normal(loc, 1.0), obs=y)

    y = torch.ones(5)
    guide = automatic(AutoDiagonalNormal, model, y)
    step = svi_step(model, adam(guide.parameters()), guide=guide, engine="fx")
    assert step(y)["elbo"].isfinite()


def test_the_mode_of_a_module_is_part_of_the_graph() -> None:
    net = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 4))
    program = VAE(StandardNormal(2), mlp([2, 4]), Bernoulli(), DiagonalGaussian(net))
    step = svi_step(program, torch.optim.SGD(program.parameters(), 0.0), engine="fx")
    eager = svi_step(program, torch.optim.SGD(program.parameters(), 0.0), engine="eager")
    for mode in (True, False, True):
        program.train(mode)
        seen = []
        for s in (eager, step):
            torch.manual_seed(0)
            seen.append(s(torch.ones(8, 4)))
        torch.testing.assert_close(seen[1], seen[0])


def test_a_frozen_parameter_gets_no_gradient() -> None:
    program = vae((1, 8, 8), 2, hidden=(8,))
    step = svi_step(program, adam(program.parameters()), engine="fx")
    step(*batch())
    frozen = program.decoder.requires_grad_(False)
    before = [p.detach().clone() for p in frozen.parameters()]
    step(*batch())
    assert all(p.grad is None for p in frozen.parameters())
    assert all(torch.equal(p, q) for p, q in zip(frozen.parameters(), before, strict=True))


def test_each_graph_has_the_gradients_of_its_own_parameters() -> None:
    """Parameters that are frozen and thawed again and again are trained when they are thawed."""
    program = vae((1, 8, 8), 2, hidden=(8,))
    step = svi_step(program, sgd(program.parameters()), engine="fx")
    for i in range(8):
        thawed = i % 2 == 0
        program.decoder.requires_grad_(thawed)
        before = [p.detach().clone() for p in program.decoder.parameters()]
        step(*batch())
        moved = [
            not torch.equal(p, q) for p, q in zip(program.decoder.parameters(), before, strict=True)
        ]
        assert set(moved) == {thawed}


@pytest.mark.parametrize(
    "engine", ["eager", "fx", pytest.param("inductor", marks=[needs_compiler, pytest.mark.slow])]
)
def test_a_parameter_that_does_not_matter_is_left_alone(engine: Engine) -> None:
    """No gradient, so that weight decay does not shrink it either."""
    program = vae((1, 8, 8), 2, hidden=(8,))
    program.register_parameter("spare", nn.Parameter(torch.ones(3)))
    step = svi_step(program, torch.optim.AdamW(program.parameters(), 0.1), engine=engine)
    for _ in range(2):
        step(*batch())
    assert program.spare.grad is None
    assert torch.equal(program.spare.detach(), torch.ones(3))


class Summed(nn.Module):
    """x ~ N(a + b, 1), two parameters of one gradient; c raises the density as much everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.zeros(3))
        self.b = nn.Parameter(torch.zeros(3))
        self.c = nn.Parameter(torch.zeros(3))

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        register(self)
        pyro.factor("slope", self.c.sum())
        with pyro.plate("data", n if x is None else x.shape[0]):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            loc = self.a + self.b + 0 * z[..., None]
            return pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor) -> Tensor:
        with pyro.plate("data", x.shape[0]):
            return pyro.sample("z", dist.Normal(torch.zeros(x.shape[0]), 1.0))


@pytest.mark.parametrize("options", [{"clip": 0.5}, {"nesterov": True, "momentum": 0.9}], ids=str)
def test_gradients_that_are_equal_are_changed_one_by_one(options: dict[str, Any]) -> None:
    """What clips, and what some optimisers do, changes gradients in place."""
    found = {}
    for engine in ("eager", "fx"):
        program = Summed()
        of_optimizer = {name: value for name, value in options.items() if name != "clip"}
        optimizer = torch.optim.SGD(program.parameters(), 0.1, **of_optimizer)
        step = svi_step(program, optimizer, clip=options.get("clip"), engine=engine)
        for _ in range(3):
            step(torch.full((5, 3), 3.0))
        found[engine] = torch.stack(list(program.parameters())).detach()
    torch.testing.assert_close(found["fx"], found["eager"])
    assert float(found["eager"].abs().min()) > 1e-3


class TestTheLadder:
    def test_auto_climbs_as_calls_pay(self) -> None:
        assert [plan(n) for n in (1, 100, 9999, 10_000)] == ["eager", "fx", "fx", "inductor"]
        assert [plan(10**6, e) for e in ("eager", "fx", "inductor")] == ["eager", "fx", "inductor"]
        replay = Replay()
        rungs = []
        for _ in range(101):
            replay(lambda x: (x + 1,), torch.ones(2))
            rungs.append(replay.rung)
        assert rungs == ["eager"] * 99 + ["fx"] * 2

    def test_what_goes_on_in_another_process_climbs_at_the_same_call(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Epochs of three batches, whose smaller last ones are compiled from the fifth on."""
        monkeypatch.setattr("ppl_gen.inference.engine.replay.COMPILE_AFTER", 5)

        def compiled(self: Replay, case: Any, graph: Any, inputs: tuple[Tensor, ...]) -> Any:
            case.rung, case.run = "inductor", graph
            return graph(*inputs)

        monkeypatch.setattr(Replay, "_compile", compiled)

        def epochs(count: int, done: int) -> list[str]:
            replay = Replay("inductor", begun=3 * done)
            rungs = []
            for size in [4, 4, 2] * count:
                replay(lambda x: (x + 1,), torch.ones(size))
                rungs.append([case.rung for case in replay._cases.values()][-1])
            return rungs[2::3]

        whole = epochs(8, done=0)
        assert whole == ["fx"] * 4 + ["inductor"] * 4
        for done in range(1, 8):
            assert epochs(8 - done, done) == whole[done:]

    def test_what_cannot_be_traced_runs_eagerly_and_says_why_once(self) -> None:
        replay = Replay("fx", what="sum")
        with pytest.warns(
            RuntimeWarning, match="the sum cannot be traced and runs eagerly: .*"
        ) as told:
            for i in range(3):
                assert (
                    replay(lambda x: (x * float(x.sum().item()),), torch.full((2,), float(i)))[
                        0
                    ].sum()
                    == 4 * i**2
                )
        assert len(told) == 1

    def test_noise_and_data_that_pass_through_python_are_found_out_at_once(self) -> None:
        """As those of distributions that draw number by number: constants of the graph."""
        for function in (
            lambda x: (x + torch.tensor(torch.randn(3).tolist()),),
            lambda x: (x + torch.tensor(x.tolist()),),
        ):
            replay = Replay("fx", watch=False, rows=[0])
            torch.manual_seed(0)
            with pytest.warns(RuntimeWarning, match="draws on something outside its inputs"):
                got = [replay(function, torch.arange(3.0) + i)[0] for i in range(3)]
            torch.manual_seed(0)
            assert torch.equal(
                torch.stack(got),
                torch.stack([function(torch.arange(3.0) + i)[0] for i in range(3)]),
            )

    def test_without_a_compiler_the_graph_is_replayed_uncompiled(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def missing(graph: Any, inputs: Any) -> Any:
            raise RuntimeError("No working C++ compiler found")

        monkeypatch.setattr("ppl_gen.inference.engine.replay.compiled", missing)
        program = vae((1, 8, 8), 2, hidden=(8,))
        step = svi_step(program, adam(program.parameters()), engine="inductor")
        with pytest.warns(
            RuntimeWarning, match="replayed uncompiled: No working C\\+\\+ compiler"
        ) as told:
            for _ in range(4):
                step(*batch())
        assert len([w for w in told if w.category is RuntimeWarning]) == 1

    def test_a_warning_of_the_compiler_is_no_failure_to_compile(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Even where warnings are errors, as torch's of Python 3.13.0 would be."""

        def warns(graph: Any, inputs: Any, **options: Any) -> Any:
            warnings.warn("a deprecated import", FutureWarning, stacklevel=1)
            return SimpleNamespace(_compiled_fn=graph)

        monkeypatch.setattr("torch._inductor.standalone_compile", warns)
        replay = Replay("inductor")
        with warnings.catch_warnings(action="error"):
            for _ in range(2):
                (result,) = replay(lambda x: (x + 1,), torch.ones(2))
                assert torch.equal(result, torch.full((2,), 2.0))
        assert replay.rung == replay.highest == "inductor"

    @needs_compiler
    @pytest.mark.long
    def test_compiled_inputs_may_lie_otherwise_in_memory(self) -> None:
        """As the state of a chain does, which is an input at first and a result from then on."""

        def function(x: Tensor) -> tuple[Tensor]:
            return ((x @ weight).tanh(),)

        weight = torch.eye(3)
        for first in (torch.rand(4, 3, 5).mT, torch.rand(3).expand(4, 5, 3)):
            replay = Replay("inductor")
            for x in (first, first.contiguous(), first, torch.rand(5, 4, 3).transpose(0, 1)):
                torch.testing.assert_close(replay(function, x, key="one"), function(x))
            assert replay.rung == "inductor"

    def test_it_may_be_lowered_and_never_climbs_again(self) -> None:
        replay = Replay("inductor")
        for rung in ("fx", "inductor"):
            replay.lower(rung)
            assert replay.highest == "fx"
        replay(lambda x: (x + 1,), torch.ones(2))
        assert replay.rung == "fx"
        for rung in ("eager", "fx"):
            replay.lower(rung)
            assert replay.highest == "eager"
        replay(lambda x: (x + 1,), torch.ones(2))
        assert replay.rung == "eager"

    def test_one_graph_for_every_number_of_rows(self) -> None:
        """From the second shape on, whether the rows are named at construction or at the call."""
        for replay, options in (
            (Replay("fx", watch=False, rows=[1]), {}),
            (Replay("fx", watch=False), {"rows": [1]}),
        ):
            calls = []

            def function(weight: Tensor, x: Tensor, calls: list[int] = calls) -> tuple[Tensor]:
                calls.append(len(x))
                return (x @ weight,)

            weight = torch.ones(3)
            for count in (4, 6, 7, 8):
                (result,) = replay(function, weight, torch.ones(count, 3), **options)
                assert torch.equal(result, torch.full((count,), 3.0))
            # A warm-up, the trace and a comparison for the first two; a comparison for the others.
            assert [calls.count(n) for n in (7, 8)] == [1, 1]

    def test_an_objective_without_a_differentiable_loss_runs_eagerly(self) -> None:
        program = vae((1, 8, 8), 2, hidden=(8,))
        with pytest.warns(RuntimeWarning, match="RenyiELBO cannot be traced"):
            step = svi_step(
                program,
                adam(program.parameters()),
                pyro.infer.RenyiELBO(num_particles=2),
                engine="fx",
            )
        assert step(*batch())["elbo"].isfinite()

    def test_parameters_of_the_param_store_run_eagerly(self) -> None:
        """They are no module's, so no graph can take them as inputs."""

        class Stored:
            def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
                loc = pyro.param("loc", torch.zeros(2))
                with pyro.plate("data", n if x is None else x.shape[0]):
                    z = pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))
                    return pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

            def guide(self, x: Tensor) -> None:
                with pyro.plate("data", x.shape[0]):
                    pyro.sample("z", dist.Normal(x / 2, 1.0).to_event(1))

        program = Stored()
        program.model(None)
        loc = pyro.get_param_store()._params["loc"]
        with pytest.warns(UserWarning, match="no module of program and guide"):
            step = svi_step(program, torch.optim.SGD([loc], 0.1), engine="fx")
        step(torch.ones(5, 2))
        assert float(loc.detach().abs().max()) > 0

    def test_an_unknown_engine(self) -> None:
        with pytest.raises(
            ValueError,
            match="'auto', 'cuda-graph', 'inductor', 'fx', 'eager', got 'xla'",
        ):
            svi_step(
                vae((4,), 1),
                torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1),
                engine="xla",
            )  # type: ignore


class TestTracing:
    def test_one_tensor_given_twice_is_two_inputs(self) -> None:
        x = torch.ones(2)
        graph = trace(lambda a, b: (a + 2 * b,), [x, x])
        assert torch.equal(graph(torch.zeros(2), x)[0], 2 * x)

    def test_validation_pyro_and_the_generator_are_as_they_were(self) -> None:
        found = (pyro.infer.trace_elbo.torch_item, pyro.ops.special._SafeLog, torch.linalg.cholesky)
        state = torch.get_rng_state()
        trace(lambda x: (torch.randn(2) + x,), [torch.ones(2)])
        assert found == (
            pyro.infer.trace_elbo.torch_item,
            pyro.ops.special._SafeLog,
            torch.linalg.cholesky,
        )
        assert pyro.distributions.is_validation_enabled()
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "engine", ["fx", pytest.param("inductor", marks=[needs_compiler, pytest.mark.long])]
)
def test_the_evidence_does_not_depend_on_the_engine(engine: Engine) -> None:
    program = cvae((1, 8, 8), 3, classes=10, hidden=(16,))
    x, y = batch(7)
    options = {"particles": 50, "chunk": 100, "seed": 0}
    expected = log_evidence(program, None, x, y, engine="eager", **options)
    got = log_evidence(program, None, x, y, engine=engine, **options)
    torch.testing.assert_close(got.value, expected.value, rtol=1e-5, atol=1e-5)


def test_a_graph_that_cannot_be_replayed_gives_way_to_the_function() -> None:
    """How many entries a mask holds is baked into a graph."""

    def sum_of_positive(x: Tensor) -> tuple[Tensor]:
        positive = x[x > 0]
        return ((positive + torch.zeros(len(positive))).sum(),)

    replay = Replay("fx", watch=False)
    (none,) = replay(sum_of_positive, torch.tensor([-1.0, -2.0, -3.0]))
    assert none == 0
    with pytest.warns(RuntimeWarning, match="cannot be replayed, which runs eagerly"):
        (some,) = replay(sum_of_positive, torch.tensor([1.0, 2.0, -3.0]))
    assert some == 3
    assert replay.rung == "eager"
