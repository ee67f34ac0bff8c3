"""Recorded graphs give what the graphs give, wherever their inputs lie; without a CUDA device, on a
recorder that is pretended.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from recorder import Pretended, recording
from torch import Tensor, fx, nn
from torch.nn.functional import batch_norm

from ppl_gen import data
from ppl_gen.contexts import evaluating
from ppl_gen.critics import conv_critic
from ppl_gen.inference import (
    NotFinite,
    adversarial_step,
    ais,
    classification_step,
    hmc,
    reconstruction_step,
)
from ppl_gen.inference import svi_step as svi
from ppl_gen.inference.engine import captured
from ppl_gen.inference.engine.graphs import keep_constants
from ppl_gen.inference.engine.replay import COMPILE_AFTER, Engine, Replay, plan
from ppl_gen.inference.fitting.loop import iterate
from ppl_gen.inference.fitting.objectives import IWAE
from ppl_gen.models import autoencoder, classifier, cvae, dcgan, toy, vae

# Whatever is not recorded is a failure, but where it is looked for.
pytestmark = pytest.mark.filterwarnings("error:.*recorded.*:RuntimeWarning")

# A module, and its step by an engine.
Made = tuple[nn.Module, Any]


@pytest.fixture
def recorder() -> Iterator[type[Pretended]]:
    with recording() as made:
        yield made


def digits(count: int) -> data.Split:
    train = data.load("digits").train
    return data.Split(train.x[:count], train.y[:count], "dynamic")


def adam(module: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), 1e-2)


def svi_of(make: Callable[[], Any], *objective: Any, **options: Any) -> Callable[[Engine], Made]:
    def made(engine: Engine) -> Made:
        program = make()
        return program, svi(program, adam(program), *objective, engine=engine, **options)

    return made


def small_vae() -> Any:
    return vae((1, 8, 8), 2, hidden=(8,))


def by_sgd(engine: Engine) -> Made:
    program = small_vae()
    return program, svi(program, torch.optim.SGD(program.parameters(), 0.1), engine=engine)


def denoising(engine: Engine) -> Made:
    made = autoencoder((1, 8, 8), 2, hidden=(8,))
    return made, reconstruction_step(made, adam(made), engine=engine)


def classifying(engine: Engine) -> Made:
    made = classifier(autoencoder((1, 8, 8), 4, hidden=(8,)).encoder, 4, 10)
    return made, classification_step(made, adam(made), engine=engine)


STEPS: dict[str, Callable[[Engine], Made]] = {
    "ELBO": svi_of(small_vae),
    "labels": svi_of(lambda: cvae((1, 8, 8), 2, classes=10, hidden=(8,))),
    "IWAE": svi_of(small_vae, IWAE(num_particles=2)),
    "β in steps, clipped": svi_of(small_vae, beta=lambda i: 0.1 * i, clip=0.1),
    "SGD": by_sgd,
    "denoising": denoising,
    "classification": classifying,
}
QUICK = ["SGD"]
LONG = [pytest.param("β in steps, clipped", marks=pytest.mark.long)]
NAMES = [name for name in STEPS if name not in ("SGD", "β in steps, clipped")]
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in NAMES]


def after(module: nn.Module, said: list[Any]) -> dict[str, Any]:
    """What steps have led to."""
    return {"weights": list(module.parameters()), "said": said, "random": torch.get_rng_state()}


def expect_same(got: dict[str, Any], expected: dict[str, Any]) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(got["random"], expected["random"])


@pytest.mark.usefixtures("recorder")
@pytest.mark.parametrize("name", [*QUICK, *LONG, *SLOW])
def test_steps_are_those_of_the_graph(name: str) -> None:
    """Every batch lies elsewhere, and the last is smaller."""
    found = []
    for engine in ("eager", "cuda-graph"):
        torch.manual_seed(0)
        module, step = STEPS[name](engine)
        said = []
        for count in (20, 20, 20, 20, 7):
            split = digits(2 * count)
            batch = (split.x[count:].round(), split.y[count:].clone())
            said.append(dict(step(*batch)))
        found.append(after(module, said))
    expect_same(*found)


@pytest.mark.long
@pytest.mark.parametrize("name", [pytest.param("ELBO", marks=pytest.mark.slow), "denoising"])
def test_passes_are_recorded_once_for_each_size_of_batches(
    name: str, recorder: type[Pretended]
) -> None:
    found = []
    for engine in ("fx", "cuda-graph"):
        torch.manual_seed(0)
        module, step = STEPS[name](engine)
        records = list(iterate(step, digits(50).batches(20), 4))
        found.append(after(module, [dict(record.metrics) for record in records]))
    torch.testing.assert_close(found[1]["weights"], found[0]["weights"], rtol=1e-4, atol=1e-6)
    assert torch.equal(found[1]["random"], found[0]["random"])
    # A trial, one at the places of the first call, one with rows and weight copied; of two sizes.
    assert recorder.made <= 2 * 3


@pytest.mark.long
@pytest.mark.usefixtures("recorder")
@pytest.mark.parametrize(
    "change", ["parameter", *(pytest.param(c, marks=pytest.mark.slow) for c in ("state", "rate"))]
)
def test_what_is_put_elsewhere_is_found_there(change: str) -> None:
    found = []
    x = digits(20).x.round()
    for engine in ("eager", "cuda-graph"):
        torch.manual_seed(0)
        program = small_vae()
        optimizer = adam(program)
        step = svi(program, optimizer, engine=engine)
        said = []
        for i in range(6):
            if i == 3 and change == "parameter":
                for p in program.parameters():
                    p.data = p.data * 1.1
            elif i == 3 and change == "state":
                optimizer.load_state_dict(optimizer.state_dict())
            elif change == "rate":
                optimizer.param_groups[0]["lr"] = 0.01 / (1 + i)
            said.append(dict(step(x)))
        found.append(after(program, said))
    expect_same(*found)


@pytest.mark.usefixtures("recorder")
def test_a_step_that_is_not_finite_changes_nothing() -> None:
    torch.manual_seed(0)
    program, step = svi_of(small_vae, beta=lambda i: float("nan") if i == 3 else 1.0)("cuda-graph")
    x = digits(20).x.round()
    for _ in range(3):
        step(x)
    before = [p.clone() for p in program.parameters()]
    with pytest.raises(NotFinite, match="loss at step 3 is not finite"):
        step(x)
    assert all(map(torch.equal, before, program.parameters()))


class TestOneFunction:
    def replay(self) -> Replay:
        return Replay("cuda-graph", watch=False)

    def test_results_are_not_written_over(self, recorder: type[Pretended]) -> None:
        replay = self.replay()
        results = [replay(lambda x: (2 * x, None), torch.full((3,), float(i))) for i in range(5)]
        assert [float(first[0]) for first, _ in results] == [0.0, 2.0, 4.0, 6.0, 8.0]
        assert {none for _, none in results} == {None}
        assert replay.rung == "cuda-graph"
        assert recorder.made == 3  # on trial; where x lay; with a place of its own for x

    @pytest.mark.usefixtures("recorder")
    def test_only_what_is_called_for_is_written(self) -> None:
        """Trials and warm-up leave no trace in running means, counts or the generator."""

        def step(x: Tensor, mean: Tensor, variance: Tensor, count: Tensor) -> tuple[Tensor, ...]:
            count.add_(1)
            return (batch_norm(x + torch.randn_like(x), mean, variance, training=True),)

        found = []
        for engine in ("eager", "cuda-graph"):
            torch.manual_seed(0)
            state = (torch.zeros(2), torch.ones(2), torch.zeros(()))
            replay = Replay(engine, watch=False)
            outcomes = [replay(step, torch.randn(4, 2), *state)[0] for _ in range(4)]
            found.append((*state, *outcomes, torch.get_rng_state()))
        torch.testing.assert_close(*found)

    @pytest.mark.usefixtures("recorder")
    def test_one_tensor_for_two_inputs_and_one_shared_along_an_axis(self) -> None:
        replay = self.replay()
        for i in range(3):
            x = torch.full((2, 1), float(i))
            (found,) = replay(lambda a, b, c: (a + 2 * b + 4 * c,), x, x, x.expand(2, 3))
            assert torch.equal(found, torch.full((2, 3), 7.0 * i))

    @pytest.mark.usefixtures("recorder")
    def test_one_more_call_is_made_in_full_where_an_input_has_moved(self) -> None:
        replay = self.replay()
        total = torch.zeros(2)

        def add(total: Tensor, x: Tensor) -> tuple[Tensor, ...]:
            total.add_(x)
            return (total * 2,)

        for number in range(1, 5):
            x = torch.full((2,), float(number))
            if number == 1 or not replay.again("sum", [total, x]):
                assert number in (1, 2)
                replay(add, total, x, key="sum")
        assert total.tolist() == [10.0, 10.0]

    @pytest.mark.usefixtures("recorder")
    def test_data_that_are_kept_are_never_copied(self) -> None:
        x = torch.arange(6.0)
        replay = self.replay()
        for i in range(3):
            (found,) = replay(lambda x, i: (x[i],), x, torch.tensor([i]), kept=(0,))
            assert float(found) == i


class Fails(Pretended):
    """Stands for a device that cannot record."""

    def __init__(self, run: Any, inputs: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")


class Forgets(Pretended):
    """Stands for a device that computes nothing anew."""

    def replay(self) -> None:
        pass


class TestWhatCannotBeRecorded:
    @pytest.mark.parametrize(
        ("recorder", "why"),
        [(Fails, "not permitted when stream is capturing"), (Forgets, "it gives other numbers")],
    )
    def test_it_is_compiled_with_one_warning(self, recorder: type, why: str) -> None:
        found = []
        x = digits(20).x.round()
        with recording(recorder):
            for engine in ("eager", "cuda-graph"):
                torch.manual_seed(0)
                program, step = STEPS["ELBO"](engine)
                with warnings.catch_warnings(record=True, action="always") as said:
                    metrics = [dict(step(x)) for _ in range(4)]
                found.append(after(program, metrics))
        (warning,) = said
        assert "cannot be recorded and is launched piece by piece" in str(warning.message)
        assert why in str(warning.message)
        expect_same(*found)

    def test_it_is_recorded_as_it_is_where_it_cannot_be_compiled(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def missing(graph: Any, inputs: Any) -> None:
            raise RuntimeError("no compiler")

        with recording():
            monkeypatch.setattr("ppl_gen.inference.engine.replay.compiled", missing)
            replay = Replay("cuda-graph")
            with pytest.warns(RuntimeWarning, match="recorded uncompiled: no compiler"):
                replay(lambda x: (x + 1,), torch.zeros(2))
            assert replay.rung == "cuda-graph"

    @pytest.mark.usefixtures("recorder")
    def test_what_it_writes_to_may_not_move_for_good(self) -> None:
        def count(x: Tensor) -> tuple[Tensor, ...]:
            x.add_(1)
            return (x * 2,)

        replay = Replay("cuda-graph", watch=False)
        kept = [torch.zeros(2) for _ in range(30)]
        with pytest.warns(RuntimeWarning, match="lie elsewhere all the time") as said:
            for x in kept:
                replay(count, x)
        assert len(said) == 1
        assert all(bool((x == 1).all()) for x in kept)
        assert replay.rung == "inductor"

    @pytest.mark.usefixtures("recorder")
    def test_tensors_of_two_devices_cannot(self) -> None:
        with pytest.raises(captured.CaptureError, match="input 1 lies on meta, others on cpu"):
            captured.Captured(
                lambda *t: t, lambda *t: t, [torch.zeros(1), torch.zeros(1, device="meta")]
            )


class TestWhereThereIsNoDevice:
    def test_it_is_refused_with_a_remedy(self) -> None:
        program = small_vae()
        with pytest.raises(ValueError, match="expected a CUDA device for the engine 'cuda-graph'"):
            svi(program, adam(program), engine="cuda-graph")
        with pytest.raises(ValueError, match="take engine='auto'"):
            hmc(toy.Banana().model, draws=2, warmup=2, engine="cuda-graph")

    def test_auto_records_where_there_is_one(self) -> None:
        device = torch.device("cuda", 0)
        enough = COMPILE_AFTER
        assert plan(enough) == plan(enough, device=torch.device("cpu")) == "inductor"
        assert plan(enough, device=device) == "cuda-graph"
        assert plan(enough - 1, device=device) == "fx"
        assert plan(enough, "inductor", device) == "inductor"


@pytest.mark.long
@pytest.mark.usefixtures("recorder")
def test_moves_of_a_game_are_those_made_one_by_one() -> None:
    """Batch normalisation counts and averages on the way."""
    found = []
    for engine in ("eager", "cuda-graph"):
        torch.manual_seed(0)
        program, critic = dcgan((1, 8, 8), 4, width=4), conv_critic((1, 8, 8), width=4)
        step = adversarial_step(program, critic, adam(program), adam(critic), r1=0.1, engine=engine)
        said = [dict(step(torch.rand(8, 1, 8, 8))) for _ in range(4)]
        found.append(after(program, said) | {"held": list(program.buffers())})
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-4)


@pytest.mark.cuda
@pytest.mark.parametrize("name", STEPS)
def test_on_cuda_steps_are_those_of_the_program(name: str) -> None:
    """Compiled and recorded, against eager, to the rounding of eight steps."""
    found = []
    for engine in ("eager", "cuda-graph"):
        torch.manual_seed(0)
        with torch.device("cuda"):
            module, step = STEPS[name](engine)
        said = []
        for count in (20, 20, 20, 20, 20, 20, 7, 7):
            split = digits(2 * count).to("cuda")
            said.append(dict(step(split.x[count:].round(), split.y[count:].clone())))
        found.append({"weights": list(module.parameters()), "said": said})
    torch.testing.assert_close(found[1], found[0], rtol=1e-2, atol=1e-3)


@pytest.mark.cuda
def test_on_cuda_random_numbers_go_on_and_are_seeded() -> None:
    replay = Replay("cuda-graph", watch=False)
    x = torch.zeros(1000, device="cuda")

    def noise() -> Tensor:
        (found,) = replay(lambda x: (x + torch.randn_like(x),), x)
        return found

    torch.manual_seed(3)
    first, second = noise(), noise()
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(noise(), first)
    torch.manual_seed(3)
    assert torch.equal(torch.randn_like(x), first)
    assert replay.rung == "cuda-graph"


@pytest.mark.long
@pytest.mark.usefixtures("recorder")
@pytest.mark.filterwarnings("ignore:the draws of hmc are no sample")
def test_trajectories_of_hmc_are_those_of_the_graph() -> None:
    run = partial(hmc, toy.Banana().model, draws=3, warmup=2, chains=2, seed=1)
    expected = run(engine="fx")
    got = run(engine="cuda-graph")
    for name, values in expected.samples.items():
        torch.testing.assert_close(got.samples[name], values, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("recorder")
def test_annealing_is_that_of_the_graph() -> None:
    program = toy.PPCA(torch.randn(6, 2), torch.zeros(6), 0.4)
    with evaluating(program):
        x = program.model(None, n=3)
    run = partial(ais, program, x, temperatures=5, chains=2, leapfrogs=2, seed=0)
    torch.testing.assert_close(
        run(engine="cuda-graph").value, run(engine="fx").value, rtol=1e-4, atol=1e-4
    )


def test_constants_are_brought_to_the_device_once() -> None:
    """The device without memory stands for CUDA's: what is kept there is seen in the graph."""
    own = torch.tensor(2.0)
    graph = fx.Graph()
    x = graph.placeholder("x")
    constant = graph.get_attr("own")
    copied = graph.call_function(torch.ops.aten.lift_fresh_copy.default, (constant,))
    moved = graph.call_function(
        torch.ops.aten._to_copy.default, (copied,), {"device": torch.device("meta")}
    )
    graph.output(graph.call_function(torch.ops.aten.mul.Tensor, (x, moved)))
    root = nn.Module()
    root.own = own
    module = fx.GraphModule(root, graph)
    keep_constants(module, "meta")
    assert [node.op for node in module.graph.nodes].count("call_function") == 1
    assert module(torch.ones(2, device="meta")).device.type == "meta"
