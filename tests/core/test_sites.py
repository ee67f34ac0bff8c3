"""What is read off a trace, and off a program before it is called."""

from __future__ import annotations

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_gen.contexts import device_of, modules_of, owner, seeded
from ppl_gen.models import vae
from ppl_gen.sites import deterministic_sites, plate_nesting, plates, stochastic_sites, unwrapped


def traced(model: object, *args: Tensor) -> poutine.Trace:
    return poutine.trace(model).get_trace(*args)


def rows_and_columns() -> None:
    with pyro.plate("columns", 3, dim=-1), pyro.plate("rows", 2, dim=-2):
        a = pyro.sample("a", dist.Normal(torch.zeros(4), 1.0).to_event(1))
        pyro.deterministic("b", a + 1, event_dim=1)


def no_plates() -> None:
    pyro.sample("a", dist.Normal(0.0, 1.0))


class TestSites:
    def test_plates_are_named_axis_by_axis(self) -> None:
        trace = traced(rows_and_columns)
        assert plates(trace.nodes["a"]) == ("rows", "columns", "")
        assert plates(trace.nodes["b"]) == ("rows", "columns", "")

    def test_nesting_counts_the_plates_of_the_program_alone(self) -> None:
        assert plate_nesting(traced(rows_and_columns)) == 2
        with pyro.plate("_particles", 5, dim=-3):
            assert plate_nesting(traced(rows_and_columns)) == 2

    def test_without_plates_the_caller_says_the_nesting(self) -> None:
        assert plate_nesting(traced(no_plates)) == 1
        assert plate_nesting(traced(no_plates), least=0) == 0

    def test_the_subsampling_of_a_plate_is_no_site(self) -> None:
        def model() -> None:
            with pyro.plate("rows", 10, subsample_size=2):
                pyro.sample("a", dist.Normal(0.0, 1.0))

        assert stochastic_sites(traced(model)).keys() == {"a"}

    def test_deterministic_sites_are_left_out_where_a_latent_is_discrete(self) -> None:
        def model() -> None:
            a = pyro.sample("a", dist.Bernoulli(0.5))
            pyro.deterministic("b", a + 1)

        assert deterministic_sites(traced(rows_and_columns)) == ["b"]
        assert deterministic_sites(traced(model)) == []

    def test_unwrapped(self) -> None:
        normal = dist.Normal(torch.zeros(5, 3), 1.0)
        masked = normal.mask(torch.ones(5, 3).bool()).to_event(1)
        assert unwrapped(normal.to_event(1).to_event(1)) is normal
        assert isinstance(unwrapped(masked), dist.MaskedDistribution)
        assert unwrapped(masked, masks=True) is normal


class TestContexts:
    def test_modules_are_found_in_methods_attributes_and_closures(self) -> None:
        program = vae((4,), 2)
        net = nn.Linear(2, 2)

        def closure(x: Tensor) -> Tensor:
            return net(x)

        assert modules_of(program.guide) == list(program.modules())
        assert modules_of(closure, functools.partial(closure)) == [net]
        assert owner(functools.partial(program.model, n=3)) is program

    def test_a_variable_without_a_value_is_passed_over(self) -> None:
        def closure() -> object:
            return later

        assert modules_of(closure) == []
        later = nn.Linear(1, 1)
        assert modules_of(closure) == [later]

    @pytest.mark.parametrize("seed", [None, 3])
    def test_a_seed_leaves_the_generator_as_it_was(self, seed: int | None) -> None:
        before = torch.get_rng_state()
        with seeded(torch.device("cpu"), seed):
            torch.randn(1)
        assert torch.equal(before, torch.get_rng_state()) == (seed is not None)

    def test_the_device_is_that_of_the_arguments_or_of_the_parameters(self) -> None:
        meta = nn.Linear(1, 1, device="meta")
        assert device_of(meta) == torch.device("meta")
        assert device_of(meta, [3, torch.zeros(1)]) == torch.device("cpu")
        assert device_of(None) == torch.device("cpu")
