"""HMC: right on every scenario, each datum by itself where local, and able to fail."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from scenarios import SCENARIOS, check_draws
from torch import Tensor

from ppl_gen.inference import ConvergenceWarning, Draws, hmc
from ppl_gen.inference.latents.potential import Potential
from ppl_gen.inference.mcmc import moves
from ppl_gen.inference.mcmc.draws import Progress
from ppl_gen.inference.mcmc.leapfrog import accept_step
from ppl_gen.models import toy, vae
from ppl_gen.program import simulate

# A chain of hidden states is a graph of thousands of nodes, which is replayed uncompiled here. The
# others repeat a kind of posterior that is among the quick ones.
LONG = (
    "ordered mixture",
    "hidden Markov chain",
    "banana",
    "linear regression, noise unknown",
    "logistic regression",
)
QUICK = [name for name in SCENARIOS if name not in LONG]


@pytest.mark.long
@pytest.mark.parametrize(
    "name", [*QUICK, *[pytest.param(name, marks=pytest.mark.slow) for name in LONG]]
)
def test_moments_agree_with_the_reference(name: str) -> None:
    posterior = SCENARIOS[name]()
    count = 400 if name in QUICK else 200
    draws = hmc(posterior.model, *posterior.data, draws=count, warmup=count, seed=1, engine="fx")
    check_draws(name, posterior, draws)


def always(*inputs: Tensor) -> tuple[Tensor, ...]:
    """An accept step that takes every proposal that is finite."""
    rest = accept_step(*inputs)[3:]
    return (torch.where(inputs[4].isfinite(), inputs[4], inputs[0]), *inputs[5:7], *rest)


def without_kinetic_energy(*inputs: Tensor) -> tuple[Tensor, ...]:
    """An accept step that forgets the momenta."""
    rest = list(inputs)
    for i in (3, 7):
        rest[i] = torch.zeros_like(rest[i])
    return accept_step(*rest)


@pytest.mark.long
@pytest.mark.parametrize(
    "broken", [always, pytest.param(without_kinetic_energy, marks=pytest.mark.slow)]
)
def test_a_broken_accept_step_fails_the_law(
    broken: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    posterior = toy.LinearRegression.simulated(60, 3)
    options = {"draws": 300, "warmup": 200, "trajectory": 2.0, "engine": "fx", "seed": 1}
    check_draws("linear regression", posterior, hmc(posterior.model, *posterior.data, **options))
    monkeypatch.setattr(moves, "accept_step", broken)
    monkeypatch.setattr(moves, "LONGEST", 4)  # step sizes may shrink to nothing
    posterior = toy.LinearRegression.simulated(60, 3)
    draws = hmc(posterior.model, *posterior.data, **options)
    with pytest.raises(AssertionError, match=r"standard errors off|R̂"):
        check_draws("linear regression", posterior, draws)


@pytest.mark.parametrize("name", [*SCENARIOS, "funnel, centred", "two modes"])
def test_energies_of_all_chains_are_those_of_each(name: str) -> None:
    others = {"funnel, centred": toy.Funnel, "two modes": toy.SignFlip.simulated}
    posterior = (SCENARIOS | others)[name]()
    potential = Potential(posterior.model, posterior.data)
    q = potential.starts(5)
    energy, gradient = potential.energies(q, *potential.tensors)
    expected_energy, expected_gradient = potential.energies_in_turn(q, *potential.tensors)
    torch.testing.assert_close(energy, expected_energy)
    torch.testing.assert_close(gradient, expected_gradient)


class TestLocal:
    @pytest.mark.long
    def test_each_datum_has_its_own_exact_posterior(self) -> None:
        program = toy.PPCA(torch.randn(6, 2), torch.zeros(6), 0.5)
        x = simulate(program, 40)
        draws = hmc(
            program.model, x, draws=300, warmup=300, chains=16, local=True, seed=0, engine="fx"
        )
        exact = program.exact_posterior(x)
        assert draws.max_r_hat < 1.02
        z = (draws.mean["z"] - exact.mean) / draws.mcse["z"]
        assert float(z.abs().max()) < 4.5  # the largest of eighty
        spread = (draws.sd["z"] - exact.variance.sqrt()) / draws.mcse_sd["z"]
        assert float(spread.abs().max()) < 4.5
        assert (
            float(z.std()) < 1.3
        )  # less than one, as ArviZ takes ESS beyond the number of draws with caution

    def test_energies_are_those_of_the_joint_posterior(self) -> None:
        program = vae((9,), 2, hidden=(4,))
        x = torch.rand(5, 9).round()
        local = Potential(program.model, (x,), local=True)
        joint = Potential(program.model, (x,))
        q = local.starts(3)
        energy, gradient = local.energies(q, *local.tensors)
        total, flat = joint.energies(q.reshape(3, 1, -1), *joint.tensors)
        torch.testing.assert_close(energy.sum(1), total[:, 0])
        torch.testing.assert_close(gradient.reshape(3, 1, -1), flat)

    @pytest.mark.long
    def test_chunks_are_put_side_by_side(self) -> None:
        """Seven data in chunks of three: the last is filled up, and what fills it is dropped."""
        program = toy.PPCA(torch.randn(6, 2), torch.zeros(6), 0.5)
        x = simulate(program, 7)
        seen: list[Progress] = []
        draws = hmc(
            program.model,
            x,
            draws=200,
            warmup=200,
            chains=8,
            local=True,
            chunk=3,
            seed=0,
            engine="fx",
            on_draw=seen.append,
        )
        assert draws.samples["z"].shape == (8, 200, 7, 2)
        assert draws.log_density.shape == draws.divergent.shape == (8, 200, 7)
        z = (draws.mean["z"] - program.exact_posterior(x).mean) / draws.mcse["z"]
        assert float(z.abs().max()) < 4
        assert [now.done for now in seen] == sorted(now.done for now in seen)
        assert seen[-1].done == seen[-1].total == 3 * 400

    @pytest.mark.long
    def test_an_interrupt_leaves_the_data_that_are_done(self) -> None:
        program = toy.PPCA(torch.randn(6, 2), torch.zeros(6), 0.5)

        def stop(now: Progress) -> None:
            if now.done > 60:
                raise KeyboardInterrupt

        options = {
            "draws": 20,
            "warmup": 10,
            "chains": 2,
            "local": True,
            "chunk": 2,
            "engine": "fx",
        }
        with pytest.warns(RuntimeWarning, match="interrupted"):
            draws = hmc(program.model, simulate(program, 6), seed=0, on_draw=stop, **options)
        assert draws.samples["z"].shape == (2, 20, 4, 2)
        assert draws.remarks == ("interrupted: the draws are of the first 4 of 6 data",)

    @pytest.mark.long
    def test_simulation_based_calibration(self) -> None:
        """z ~ p(z), x ~ p(x | z): the rank of z among draws from p(z | x) is uniform (Talts et al.
        2018).
        """
        program = toy.Curve(lambda z: torch.cat([z, z.square()], -1), 0.4)
        z = torch.randn(600, 1)
        x = dist.Normal(program.feature_map(z), 0.4).sample()
        draws = hmc(
            program.model, x, draws=200, warmup=300, chains=16, local=True, seed=0, engine="fx"
        )
        # One draw of each chain: independent of each other and of where the chains began.
        ranks = (draws.samples["z"][:, -1, :, 0] < z[:, 0]).sum(0)
        counts = torch.bincount(ranks, minlength=17).double()
        expected = 600 / 17
        statistic = float(((counts - expected) ** 2 / expected).sum())
        assert statistic < 32.0, f"χ² of 16 degrees of freedom at the 1 % level: {statistic:.1f}"


@pytest.mark.slow
def test_simulation_based_calibration_of_joint_posteriors() -> None:
    """A new data set each time, the graph traced once: the data are its inputs."""

    def model(y: Tensor) -> None:
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        scale = pyro.sample("scale", dist.LogNormal(0.0, 0.5))
        with pyro.plate("data", y.shape[0]):
            pyro.sample("y", dist.Normal(loc, scale), obs=y)

    ranks = []
    for i in range(80):
        torch.manual_seed(i)
        loc = torch.randn(())
        scale = (0.5 * torch.randn(())).exp()
        y = loc + scale * torch.randn(5)
        draws = hmc(model, y, draws=10, warmup=50, chains=19, seed=i, engine="fx")
        last = {name: z[:, -1] for name, z in draws.samples.items()}
        ranks.append([int((last["loc"] < loc).sum()), int((last["scale"] < scale).sum())])
    for parameter in zip(*ranks, strict=True):
        counts = torch.bincount(torch.tensor(parameter) // 4, minlength=5).double()
        statistic = float(((counts - 16) ** 2 / 16).sum())
        assert statistic < 13.3, f"χ² of 4 degrees of freedom at the 1 % level: {statistic:.1f}"


class TestNothingIsBakedIn:
    def test_new_data_give_the_new_answer(self) -> None:
        def model(y: Tensor) -> None:
            loc = pyro.sample("loc", dist.Normal(0.0, 10.0))
            with pyro.plate("data", y.shape[0]):
                pyro.sample("y", dist.Normal(loc, 1.0), obs=y)

        for centre in (0.0, 5.0):
            draws = hmc(
                model, torch.full((50,), centre), draws=100, warmup=100, seed=0, engine="fx"
            )
            assert float(draws.mean["loc"]) == pytest.approx(centre * 50 / 50.01, abs=0.05)

    @pytest.mark.long
    def test_data_of_a_closure_that_were_replaced(self) -> None:
        held = {"y": torch.zeros(50), "scale": 1.0}

        def model() -> None:
            loc = pyro.sample("loc", dist.Normal(0.0, 10.0))
            with pyro.plate("data", 50):
                pyro.sample("y", dist.Normal(loc, held["scale"]), obs=held["y"])

        hmc(model, draws=20, warmup=20, seed=0, engine="fx")
        held["y"] = torch.full((50,), 5.0)
        with pytest.warns(RuntimeWarning, match="has changed since it was traced"):
            draws = hmc(model, draws=100, warmup=100, seed=0, engine="fx")
        assert float(draws.mean["loc"]) == pytest.approx(5.0, abs=0.05)
        held["scale"] = 0.1
        with pytest.warns(RuntimeWarning, match="has changed since it was traced"):
            draws = hmc(model, draws=100, warmup=100, seed=0, engine="fx")
        assert float(draws.sd["loc"]) == pytest.approx(0.1 / 50**0.5, rel=0.1)

    @pytest.mark.slow
    def test_an_argument_that_is_no_tensor_and_moves_a_small_part_of_the_gradient(self) -> None:
        """One large entry must not hide the change of a small one."""
        y = 3 + 0.01 * torch.randn(2000)

        def model(y: Tensor, sd: float) -> None:
            loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
            t = pyro.sample("t", dist.Normal(0.0, sd))
            with pyro.plate("data", y.shape[0]):
                pyro.sample("y", dist.Normal(loc, 0.01), obs=y)
            pyro.sample("w", dist.Normal(t, 3.0), obs=torch.tensor(2.0))

        for sd in (1.0, 2.0):
            draws = hmc(model, y, sd, draws=80, warmup=100, seed=0, engine="fx")
            exact = 2 * sd**2 / (sd**2 + 9)
            assert float(draws.mean["t"]) == pytest.approx(exact, abs=4 * float(draws.mcse["t"]))


class TestOtherPrograms:
    @pytest.mark.slow
    def test_double_precision_and_an_improper_prior(self) -> None:
        def model(y: Tensor) -> None:
            loc = pyro.sample("loc", dist.ImproperUniform(dist.constraints.real, (), ()))
            scale = pyro.sample("scale", dist.LogNormal(y.new_zeros(()), 1e-9))
            with pyro.plate("data", y.shape[0]):
                pyro.sample("y", dist.Normal(loc, 1e-4 * scale), obs=y)

        y = torch.full((100,), 1000.0, dtype=torch.float64)
        draws = hmc(model, y, draws=5, warmup=10, seed=0, engine="fx")
        assert draws.samples["loc"].dtype == torch.float64

    @pytest.mark.long
    def test_a_simplex(self) -> None:
        counts = torch.tensor([5.0, 2.0, 1.0])

        def model(counts: Tensor) -> None:
            p = pyro.sample("p", dist.Dirichlet(torch.ones(3)))
            pyro.sample("counts", dist.Multinomial(8, p), obs=counts)

        draws = hmc(model, counts, draws=300, warmup=200, seed=0, engine="fx")
        exact = dist.Dirichlet(1 + counts)
        z = (draws.mean["p"] - exact.mean) / draws.mcse["p"]
        assert float(z.abs().max()) < 4

    def test_distributions_that_validate_what_they_are_given(self) -> None:
        prior = dist.Normal(torch.zeros(2), 1.0).expand([2])

        def model(y: Tensor) -> None:
            loc = pyro.sample("loc", prior.to_event(1))
            pyro.sample("y", dist.Normal(loc, 1.0).to_event(1), obs=y)

        with warnings.catch_warnings(action="error"):
            draws = hmc(model, torch.ones(2), draws=100, warmup=100, seed=0, engine="fx")
        z = (draws.mean["loc"] - 0.5) / draws.mcse["loc"]
        assert float(z.abs().max()) < 4


def test_the_seed_decides_and_the_generator_is_left_alone() -> None:
    posterior = toy.Banana()
    before = torch.get_rng_state()
    first, second = (
        hmc(posterior.model, draws=10, warmup=20, chains=4, seed=3, engine="fx") for _ in range(2)
    )
    assert torch.equal(first.samples["x1"], second.samples["x1"])
    assert torch.equal(torch.get_rng_state(), before)


def test_engines_give_the_same_draws_to_rounding() -> None:
    posterior = toy.LinearRegression.simulated(20, 2)
    runs = [
        hmc(posterior.model, *posterior.data, draws=3, warmup=0, seed=3, engine=e)
        for e in ("eager", "fx")
    ]
    for a, b in zip(runs[0].samples.values(), runs[1].samples.values(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.slow
def test_divergences_of_the_centred_funnel_are_counted() -> None:
    posterior = toy.Funnel(centred=True)
    draws = hmc(
        posterior.model, draws=100, warmup=100, chains=16, trajectory=2.0, seed=0, engine="fx"
    )
    assert draws.divergences > 0


def test_an_interrupt_returns_the_draws_so_far() -> None:
    def stop(now: Progress) -> None:
        if now.phase == "draws" and now.done >= 70:
            raise KeyboardInterrupt

    with pytest.warns(RuntimeWarning, match="interrupted after 50 of 1000 draws"):
        draws = hmc(
            toy.Banana().model, draws=1000, warmup=20, chains=4, seed=0, engine="fx", on_draw=stop
        )
    assert draws.draws == 50
    assert "interrupted" in draws.remarks[0]


def test_chains_that_never_move_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def freezing(*inputs: Tensor) -> tuple[Tensor, ...]:
        log_u = inputs[8].clone()
        log_u[2] = torch.inf
        return accept_step(*inputs[:8], log_u, *inputs[9:])

    monkeypatch.setattr(moves, "accept_step", freezing)
    draws = hmc(toy.Banana().model, draws=20, warmup=20, chains=4, seed=0, engine="eager")
    assert any("chains that never moved: 2;" in remark for remark in draws.remarks)


def test_a_program_that_vmap_cannot_follow_runs_in_turn() -> None:
    def model(y: Tensor) -> None:
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        scale = 1.0 if float(loc) > -100 else 2.0
        pyro.sample("y", dist.Normal(loc, scale), obs=y)

    with pytest.warns(RuntimeWarning, match="take turns"):
        draws = hmc(model, torch.tensor(1.0), draws=40, warmup=40, chains=4, seed=0)
    assert float(draws.mean["loc"]) == pytest.approx(0.5, abs=4 * float(draws.mcse["loc"]))


@pytest.mark.long
def test_a_failing_decomposition_is_a_divergence_of_its_chain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A covariance that is not positive definite for some latents: their energy is NaN, the others
    go on.
    """

    def model(y: Tensor) -> None:
        off = pyro.sample("off", dist.Normal(torch.zeros(()), 1.0))
        covariance = torch.eye(2) + off * torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        pyro.sample("y", dist.MultivariateNormal(torch.zeros(2), covariance), obs=y)

    monkeypatch.setattr(moves, "LONGEST", 8)
    draws = hmc(
        model, torch.tensor([0.5, 0.5]), draws=200, warmup=50, chains=8, seed=0, engine="fx"
    )
    off = draws.samples["off"]
    assert float(off.abs().max()) < 1
    assert draws.divergences > 0


def _discrete(y: Tensor) -> None:
    rate = pyro.sample("count", dist.Poisson(3.0))
    pyro.sample("y", dist.Normal(rate, 1.0), obs=y)


def _nothing(y: Tensor) -> None:
    pyro.sample("y", dist.Normal(0.0, 1.0), obs=y)


def _impossible(y: Tensor) -> None:
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Uniform(loc + 100, loc + 101), obs=y)


def _changing(y: Tensor) -> None:
    for i in range(int(torch.randint(1, 4, ()))):
        pyro.sample(f"loc_{i}", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(0.0, 1.0), obs=y)


def _fine(y: Tensor) -> None:
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(loc, 1.0), obs=y)


def _noisy(y: Tensor) -> None:
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(loc + torch.randn(()), 1.0), obs=y)


def _moving(y: Tensor) -> None:
    a = pyro.sample("a", dist.Gamma(2.0, 1.0))
    pyro.sample("b", dist.Uniform(0.0, a))
    pyro.sample("y", dist.Normal(a, 1.0), obs=y)


BAD: dict[str, tuple[Callable[..., Any], dict[str, Any], Tensor, str]] = {
    "discrete latents": (
        _discrete,
        {},
        torch.ones(()),
        "site 'count' from Poisson; sum it out by hand",
    ),
    "no latents": (_nothing, {}, torch.ones(()), "expected a program with continuous latents"),
    "no density anywhere": (_impossible, {}, torch.ones(()), "from site 'y'; rescale the data"),
    "a changing number": (_changing, {}, torch.ones(()), "expected the same latents at every call"),
    "NaN": (_fine, {}, torch.tensor(torch.nan), "expected finite data, got NaN"),
    "draws": (_fine, {"draws": 0}, torch.ones(()), "expected draws of at least 1, got 0"),
    "chains": (_fine, {"chains": -1}, torch.ones(()), "expected chains of at least 1, got -1"),
    "engine": (_fine, {"engine": "cuda"}, torch.ones(()), "expected an engine of 'auto'"),
    "trajectory": (_fine, {"trajectory": 0.0}, torch.ones(()), "expected a trajectory above 0"),
    "noise outside sites": (
        _noisy,
        {},
        torch.ones(()),
        "draws random numbers outside its sample sites",
    ),
    "a moving support": (
        _moving,
        {},
        torch.ones(()),
        "got that of the site 'b', which depends on another latent",
    ),
    "no data, local": (
        _fine,
        {"local": True},
        torch.ones(()),
        "as the first argument for local=True",
    ),
    "shared latents, local": (_fine, {"local": True}, torch.ones(3), "outside"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    model, options, y, said = BAD[name]
    with pytest.raises(ValueError, match=said), warnings.catch_warnings(action="ignore"):
        hmc(model, y, **options)


def test_draws_are_draws() -> None:
    assert isinstance(hmc(_fine, torch.ones(()), draws=5, warmup=5, chains=2, seed=0), Draws)


@pytest.mark.long
def test_a_chain_in_a_spike_of_the_density_does_not_hold_up_the_others() -> None:
    """Where sigma goes to zero as x goes to y the density has no bound, but hardly any mass."""

    def model(y: Tensor) -> None:
        sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
        x = pyro.sample("x", dist.Normal(torch.zeros(len(y)), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(x, sigma).to_event(1), obs=y)

    y = 1.5 * torch.randn(20)
    init = {"sigma": torch.ones(16), "x": 0.5 * y.expand(16, -1)}
    init["sigma"][3] = 1e-7
    init["x"][3] = y
    options = {"chains": 16, "warmup": 150, "draws": 20, "trajectory": 1.0, "engine": "fx"}
    with pytest.warns(RuntimeWarning, match="began anew where others are: 3;"):
        draws = hmc(model, y, init=init, **options, seed=0)
    assert draws.settings["step_size"] > 0.01
    assert float(draws.samples["sigma"].min()) > 1e-3
    assert draws.remarks[-1].startswith("chains that were caught in warm-up")


def _with_an_empty_mode() -> None:
    """A standard normal, and a mode a hundred times narrower, of a mass of e⁻⁶⁰."""
    x = pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    narrow = dist.Normal(10.0, 0.01).log_prob(x).sum(-1) - 60.0
    wide = dist.Normal(0.0, 1.0).log_prob(x).sum(-1)
    pyro.factor("second", torch.logaddexp(wide, narrow) - wide)


def test_a_chain_caught_where_hardly_any_mass_is_does_not_hold_up_the_others() -> None:
    init = {"x": torch.randn(16, 2)}
    init["x"][5] = 10.0
    options = {"chains": 16, "warmup": 150, "draws": 20, "target_accept": 0.95, "engine": "fx"}
    with pytest.warns(RuntimeWarning, match="began anew where others are: 5;"):
        draws = hmc(_with_an_empty_mode, init=init, **options, seed=0)
    assert draws.settings["step_size"] > 0.1
    assert float(draws.samples["x"].max()) < 6.0


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::ppl_gen.inference.ConvergenceWarning")
def test_a_short_warm_up_takes_no_chain_for_caught() -> None:
    """The own step sizes of a few iterations say nothing: each chain stays where it is."""
    init = {"x": torch.randn(16, 2)}
    init["x"][5] = 10.0
    draws = hmc(_with_an_empty_mode, init=init, chains=16, warmup=30, draws=5, engine="fx", seed=0)
    assert not [remark for remark in draws.remarks if "caught" in remark]
    assert float(draws.samples["x"][5].min()) > 9.0


@pytest.mark.long
def test_two_modes_of_equal_mass_keep_their_chains() -> None:
    """The narrower one is denser: no chain of it is taken for caught, few as they are."""

    def model() -> None:
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        narrow = dist.Normal(10.0, 0.1).log_prob(x)
        wide = dist.Normal(0.0, 1.0).log_prob(x)
        pyro.factor("second", torch.logaddexp(wide, narrow) - wide)

    init = {"x": torch.cat([torch.zeros(11), torch.full((5,), 10.0)])}
    with pytest.warns(ConvergenceWarning):
        draws = hmc(
            model, init=init, chains=16, warmup=150, draws=20, trajectory=0.3, engine="fx", seed=0
        )
    assert draws.remarks == ()
    assert int((draws.samples["x"] > 5).all(1).sum()) == 5


def test_chains_begin_anew_in_their_own_block() -> None:
    """Of three chains and two data the last one moves in the first, the first two in the second."""
    q = torch.arange(6.0).reshape(3, 2, 1)
    state = moves.State(q, q[..., 0], 10 * q)
    which = torch.tensor([[False, True], [False, True], [True, False]])
    anew = state.begun_anew(which)
    assert anew.q[..., 0].tolist() == [[0.0, 5.0], [2.0, 5.0], [0.0, 5.0]]
    assert anew.energy.equal(anew.q[..., 0])
    assert anew.gradient.equal(10 * anew.q)
    assert state.q.equal(q)
