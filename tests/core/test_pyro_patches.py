"""Private names of Pyro and torch: each exists in the installed versions, and does as is said."""

from __future__ import annotations

import linecache
import multiprocessing
import pickle
import warnings
from types import SimpleNamespace
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import NUTS, SVI, Trace_ELBO, config_enumerate
from pyro.infer.autoguide import AutoDiagonalNormal, AutoNormal
from torch import Tensor, nn
from torch.fx import GraphModule, symbolic_trace
from torch.utils.data import DataLoader

from ppl_gen import pyro_patches
from ppl_gen.models import vae


def normal(y: Tensor) -> None:
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    with pyro.plate("data", y.shape[0]):
        pyro.sample("y", dist.Normal(0.0, scale), obs=y)


def test_every_name_has_a_test() -> None:
    assert {f"test_{name}" for name in pyro_patches.__all__} <= globals().keys()


def test_blend() -> None:
    old, new = [torch.zeros(3), torch.ones(2)], [torch.ones(3), torch.full((2,), 3.0)]
    pyro_patches.blend(old, new, 0.25)
    assert torch.equal(old[0], torch.full((3,), 0.25))
    assert torch.equal(old[1], torch.full((2,), 1.5))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch looks for the toolkit where it compiles; other remarks of its are let through."""
    from torch.utils import cpp_extension

    def compile_graph(graph: GraphModule, inputs: Any, **options: Any) -> Any:
        cpp_extension._find_cuda_home()
        assert len(said) == 1
        cpp_extension.logger.warning("another")
        return SimpleNamespace(_compiled_fn=graph)

    said: list[str] = []
    monkeypatch.setenv("CUDA_HOME", "/somewhere")
    monkeypatch.setattr(cpp_extension.logger.__class__, "callHandlers", lambda _, r: said.append(r))
    monkeypatch.setattr("torch._inductor.standalone_compile", compile_graph)
    cpp_extension._find_cuda_home()
    assert len(said) == 1
    graph = symbolic_trace(lambda x: (x + 1,))
    assert pyro_patches.compiled(graph, [torch.ones(2)]) is graph
    cpp_extension._find_cuda_home()
    assert len(said) == 3


def test_is_traced() -> None:
    seen: list[bool] = []

    def function(x: Tensor) -> Tensor:
        seen.append(pyro_patches.is_traced())
        return x + 1

    function(torch.ones(2))
    pyro_patches.make_fx(function)(torch.ones(2))
    assert seen == [False, True]


def test_drawing() -> None:
    """vmap follows draws, and enumeration, inside; refuses both outside."""

    @config_enumerate
    def enumerated(loc: Tensor) -> Tensor:
        k = pyro.sample("k", dist.Bernoulli(0.5))
        return pyro.sample("z", dist.Normal(loc + k, 1.0))

    def one(loc: Tensor) -> Tensor:
        with poutine.enum(first_available_dim=-1):
            trace = poutine.trace(enumerated).get_trace(loc)
        return trace.nodes["z"]["value"] + 0 * trace.nodes["k"]["value"].sum()

    many = torch.vmap(one, randomness="different")
    with pyro_patches.drawing():
        values = many(torch.zeros(5))
    assert len(set(values.flatten().tolist())) > 1
    with pytest.raises(Exception, match="vmap"):
        many(torch.zeros(5))


def test_end_readers() -> None:
    loader: DataLoader[Any] = DataLoader(range(3), num_workers=1, persistent_workers=True)
    pyro_patches.end_readers(loader)  # none has begun
    before = {child.pid for child in multiprocessing.active_children()}
    assert len(list(loader)) == 3
    assert len({child.pid for child in multiprocessing.active_children()} - before) == 1
    pyro_patches.end_readers(loader)
    assert {child.pid for child in multiprocessing.active_children()} <= before


def test_energy_at_draw() -> None:
    kernel = NUTS(normal)
    y = torch.ones(4)
    kernel.setup(1, y)
    drawn = kernel.sample(kernel.initial_params)
    energy = pyro_patches.energy_at_draw(kernel)
    torch.testing.assert_close(energy, kernel.potential_fn(drawn))


def test_forget_unconstrained() -> None:
    parameter = nn.Parameter(torch.ones(2))
    pyro.param("p", parameter)
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(parameter)
    pyro_patches.forget_unconstrained("p")
    assert torch.equal(pickle.loads(pickle.dumps(parameter)), parameter)


def test_global_norm() -> None:
    tensors = [torch.full((2, 2), 2.0), torch.tensor(3.0)]
    assert float(pyro_patches.global_norm(tensors)) == pytest.approx(5.0)


def test_held_tensors() -> None:
    module = nn.BatchNorm1d(2)
    parameters, buffers = pyro_patches.held_tensors(module)
    assert parameters.keys() == {"weight", "bias"}
    assert "running_mean" in buffers
    replaced = torch.full((2,), 7.0)
    parameters["weight"] = replaced
    buffers["running_mean"] = replaced
    assert module.weight is module.running_mean is replaced


def test_listens_for_parameters() -> None:
    seen = []

    def model() -> None:
        seen.append(pyro_patches.listens_for_parameters())
        pyro.param("p", torch.ones(1, requires_grad=True))

    model()
    with poutine.trace():
        model()
    with poutine.trace(param_only=True):
        model()
    assert seen == [False, False, True]
    del seen[:]
    svi = SVI(model, lambda: None, pyro.optim.SGD({"lr": 0.1}), Trace_ELBO())
    with warnings.catch_warnings(action="ignore"):
        svi.step()
    assert True in seen


def test_location_and_scale() -> None:
    guide = AutoNormal(normal, init_scale=0.3)
    guide(torch.ones(4))
    loc, scale = pyro_patches.location_and_scale(guide, "scale")
    assert loc.shape == scale.shape == ()
    assert float(scale.detach()) == pytest.approx(0.3)


def test_make_fx() -> None:
    graph = pyro_patches.make_fx(lambda x: (x.sin() + 1, None))(torch.zeros(2))
    result, nothing = graph(torch.ones(2))
    assert torch.equal(result, torch.ones(2).sin() + 1)
    assert nothing is None
    options: Any = {"tracing_mode": "symbolic", "_allow_non_fake_inputs": True}
    constant = torch.arange(3.0)
    any_size = pyro_patches.make_fx(lambda x: (x.sum(0) / x.shape[0] + constant,), **options)
    assert torch.equal(any_size(torch.ones(5, 3))(torch.ones(7, 3))[0], constant + 1)


def test_mark_as_stepped() -> None:
    """A schedule warns of a step before the first of the optimiser's, unless it is marked."""
    for mark in (False, True):
        optimizer = torch.optim.Adam([nn.Parameter(torch.ones(1))])
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        if mark:
            pyro_patches.mark_as_stepped(optimizer)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            schedule.step()
        assert any("lr_scheduler.step()" in str(w.message) for w in told) is not mark


def test_masks_out() -> None:
    fn = dist.Normal(torch.zeros(2), 1.0)
    assert pyro_patches.masks_out(fn.mask(False))
    assert not pyro_patches.masks_out(fn.mask(True))
    assert not pyro_patches.masks_out(fn.mask(torch.tensor([True, False])))
    assert not pyro_patches.masks_out(fn)


def test_mean_acceptance() -> None:
    kernel = NUTS(normal)
    kernel.setup(0, torch.ones(4))
    point = kernel.initial_params
    for _ in range(5):
        point = kernel.sample(point)
    assert 0 < pyro_patches.mean_acceptance(kernel) <= 1


def test_set_up() -> None:
    guide = AutoDiagonalNormal(normal)
    assert guide.prototype_trace is None
    pyro_patches.set_up(guide, torch.ones(4))
    assert "scale" in guide.prototype_trace.nodes
    assert guide.latent_dim == 1


def test_step_hooks() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.1)
    assert not pyro_patches.step_hooks(optimizer)
    for register in (optimizer.register_step_pre_hook, optimizer.register_step_post_hook):
        handle = register(lambda *args: None)
        assert pyro_patches.step_hooks(optimizer)
        handle.remove()


class TestTracing:
    """What Pyro and torch read out of tensors, or refuse, is out of the way, and put back."""

    def test_elbos_are_traced(self) -> None:
        program = vae((2,), 1, hidden=(4,))
        elbo = Trace_ELBO()

        def loss(x: Tensor) -> tuple[Tensor]:
            return (elbo.differentiable_loss(program.model, program.guide, x),)

        x = torch.ones(3, 2)
        with pyro_patches.tracing():
            graph = pyro_patches.make_fx(loss)(x)
        torch.manual_seed(1)
        (expected,) = loss(x)
        torch.manual_seed(1)
        torch.testing.assert_close(graph(x)[0], expected)

    def test_what_is_no_positive_definite_matrix_gives_nan(self) -> None:
        good = torch.eye(2)
        bad = torch.tensor([[1.0, 2.0], [2.0, 1.0]])
        with pyro_patches.tracing():
            singular = torch.stack([good, torch.zeros(2, 2)])
            factors = torch.linalg.cholesky(torch.stack([good, bad]))
            solution = torch.linalg.solve(singular, torch.stack([good, good]))
            inverse = torch.linalg.inv(singular)
        for found in (factors, solution, inverse):
            assert torch.equal(found[0], good)
            assert bool(found[1].isnan().all())
        with pytest.raises(torch.linalg.LinAlgError):
            torch.linalg.cholesky(bad)

    def test_the_logarithm_of_enumerated_latents_is_differentiated_by_vmap(self) -> None:
        x = torch.tensor([0.0, 2.0])
        with pyro_patches.tracing():
            gradient = torch.vmap(torch.func.grad(pyro.ops.special.safe_log))(x)
        assert float(gradient[1]) == 0.5
        assert bool(gradient.isfinite().all())

    def test_samples_are_not_validated(self) -> None:
        fn = torch.distributions.Bernoulli(0.5, validate_args=True)
        with pyro_patches.tracing():
            fn.log_prob(torch.tensor(0.5))
        with pytest.raises(ValueError, match="to be within the support"):
            fn.log_prob(torch.tensor(0.5))

    def test_it_is_put_back_also_when_nested(self) -> None:
        names = ("torch_item", "warn_if_nan")
        found = [getattr(pyro.infer.trace_elbo, name) for name in names]
        with pyro_patches.tracing():
            with pyro_patches.tracing():
                pass
            value = torch.ones(())
            assert pyro.infer.trace_elbo.torch_item(value) is not value.item()
            assert torch.is_tensor(pyro.infer.trace_elbo.torch_item(value))
        assert [getattr(pyro.infer.trace_elbo, name) for name in names] == found
        assert pyro.distributions.is_validation_enabled()


def test_tracing() -> None:
    """Left by an error, it puts all back; what it does is held by `TestTracing`."""
    with pytest.raises(KeyError), pyro_patches.tracing():
        raise KeyError
    assert pyro.distributions.is_validation_enabled()


def test_whole_plates() -> None:
    def drawn() -> int:
        with pyro.plate("data", 5, subsample_size=2) as indices:
            return len(indices)

    with pyro_patches.whole_plates():
        assert drawn() == 5
    assert drawn() == 2


def test_without_sources() -> None:
    """The source of a graph is there while it is made, and not afterwards."""
    with pyro_patches.without_sources():
        graph = pyro_patches.make_fx(torch.sin)(torch.ones(2))
        name = graph.forward.__code__.co_filename
        assert "sin" in linecache.getline(name, 5) + linecache.getline(name, 6)
    assert name not in linecache.cache
    assert not linecache.getlines(name)
    assert torch.equal(graph(torch.zeros(2)), torch.zeros(2))


def test_copy_all() -> None:
    into = [torch.zeros(3), torch.zeros(2, 2, dtype=torch.long)]
    of = [torch.ones(3), torch.arange(4).reshape(2, 2).T]
    pyro_patches.copy_all(into, of)
    pyro_patches.copy_all([], [])
    assert all(map(torch.equal, into, of))


def test_deterministic() -> None:
    with pyro_patches.deterministic(torch.device("cpu")):
        assert not torch.are_deterministic_algorithms_enabled()
    with pyro_patches.deterministic(torch.device("cuda")):
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_writes_of() -> None:
    def function(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        b[1].add_(a[0])
        return a + c

    found = pyro_patches.writes_of(function, [torch.ones(2), torch.zeros(2), torch.ones(2)])
    assert found.written == [1]
    assert torch.equal(found.returned, torch.full((2,), 2.0))
