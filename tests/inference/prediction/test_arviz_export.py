"""What ArviZ gets, below 1.0 and from 1.0 on: every group, its axes by name, and nothing left out
in silence.
"""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import arviz
import matplotlib
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib import pyplot
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, nn

from ppl_gen.inference import Draws, nuts, to_arviz
from ppl_gen.inference.prediction.arviz_export import save_netcdf
from ppl_gen.models import toy

matplotlib.use("Agg")

Y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
SIGMA = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
NAMES = list("ABCDEFGH")


def schools(y: Tensor) -> Tensor:
    mu = pyro.sample("mu", dist.Normal(4.0, 3.0))
    tau = pyro.sample("tau", dist.LogNormal(1.0, 0.5))
    with pyro.plate("schools", y.shape[0]):
        eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * eta)
        return pyro.sample("y", dist.Normal(theta, SIGMA), obs=y)


def pooled(y: Tensor) -> Tensor:
    mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
    with pyro.plate("schools", y.shape[0]):
        return pyro.sample("y", dist.Normal(mu, SIGMA), obs=y)


def approximation(y: Tensor) -> None:
    pyro.sample("mu", dist.Normal(4.0, 3.0))
    pyro.sample("tau", dist.LogNormal(1.0, 0.5))
    with pyro.plate("schools", y.shape[0]):
        pyro.sample("eta", dist.Normal(torch.arange(8.0), 0.01))


def made(
    chains: int = 2,
    draws: int = 100,
    dims: dict[str, tuple[str, ...]] | None = None,
    **samples: Tensor,
) -> Draws:
    shape = (chains, draws)
    divergent = torch.zeros(shape, dtype=torch.bool)
    divergent[0, 0] = True
    stats = (torch.randn(shape), divergent, torch.rand(shape))
    return Draws(
        samples, *stats, seconds=2.0, dims=dims or {}, sampler="fake", settings={"step_size": 0.5}
    )


def eight(chains: int = 2, draws: int = 100) -> Draws:
    mu = 4 + 3 * torch.randn(chains, draws)
    tau = torch.randn(chains, draws).exp()
    eta = torch.randn(chains, draws, 8)
    theta = mu[..., None] + tau[..., None] * eta
    dims = {"mu": (), "tau": (), "eta": ("schools",), "theta": ("schools",)}
    return made(chains, draws, dims, mu=mu, tau=tau, eta=eta, theta=theta)


def test_draws_export_themselves() -> None:
    draws = eight()
    tree = draws.to_arviz(coords={"schools": NAMES})
    whole = to_arviz(draws, coords={"schools": NAMES})
    for group in ("posterior", "sample_stats"):
        assert dict(tree[group].sizes) == dict(whole[group].sizes)
        assert set(tree[group].data_vars) == set(whole[group].data_vars)
    assert list(tree["posterior"]["theta"].coords["schools"].values) == NAMES
    assert tree["posterior"].attrs["step_size"] == 0.5
    with pytest.raises(ValueError, match="expected coords for dimensions among"):
        draws.to_arviz(coords={"school": NAMES})


def groups(tree: Any) -> set[str]:
    names = tree.groups
    if callable(names):  # of InferenceData
        names = names()
    return {name.strip("/") for name in names} - {""}


@pytest.fixture(scope="module")
def tree() -> Any:
    torch.manual_seed(2)
    return to_arviz(
        eight(),
        model=schools,
        args=(Y,),
        guide=approximation,
        prior_draws=300,
        coords={"schools": NAMES},
        seed=1,
    )


class TestGroups:
    def test_all_are_there(self, tree: Any) -> None:
        assert groups(tree) == {
            "posterior",
            "sample_stats",
            "posterior_predictive",
            "log_likelihood",
            "observed_data",
            "prior",
            "prior_predictive",
            "guide",
        }
        kind = "InferenceData" if int(arviz.__version__.split(".")[0]) < 1 else "DataTree"
        assert type(tree).__name__ == kind

    @pytest.mark.parametrize(
        ("group", "variables", "sizes"),
        [
            ("posterior", {"mu", "tau", "eta", "theta"}, {"chain": 2, "draw": 100, "schools": 8}),
            ("sample_stats", {"lp", "diverging", "acceptance_rate"}, {"chain": 2, "draw": 100}),
            ("posterior_predictive", {"y"}, {"chain": 2, "draw": 100, "schools": 8}),
            ("log_likelihood", {"y"}, {"chain": 2, "draw": 100, "schools": 8}),
            ("observed_data", {"y"}, {"schools": 8}),
            ("prior", {"mu", "tau", "eta", "theta"}, {"chain": 1, "draw": 300, "schools": 8}),
            ("prior_predictive", {"y"}, {"chain": 1, "draw": 300, "schools": 8}),
            ("guide", {"mu", "tau", "eta", "theta"}, {"chain": 1, "draw": 1000, "schools": 8}),
        ],
    )
    def test_variables_axes_and_names(
        self, tree: Any, group: str, variables: set[str], sizes: dict[str, int]
    ) -> None:
        dataset = tree[group]
        assert set(dataset.data_vars) == variables
        assert dict(dataset.sizes) == sizes
        if "schools" in sizes:
            assert dataset.coords["schools"].values.tolist() == NAMES

    def test_draws_alone(self) -> None:
        draws = eight()
        tree = to_arviz(draws)
        assert groups(tree) == {"posterior", "sample_stats"}
        np.testing.assert_array_equal(tree["posterior"]["eta"].values, draws.samples["eta"].numpy())
        np.testing.assert_array_equal(tree["sample_stats"]["lp"].values, draws.log_density.numpy())
        assert tree["sample_stats"]["diverging"].dtype == bool
        assert tree["sample_stats"]["diverging"].values.sum() == 1
        assert tree["posterior"].attrs["sampler"] == "fake"
        assert tree["posterior"].attrs["step_size"] == 0.5

    def test_groups_that_are_not_asked_for(self) -> None:
        tree = to_arviz(
            eight(),
            model=schools,
            args=(Y,),
            prior_draws=0,
            posterior_predictive=False,
            log_likelihood=False,
        )
        assert groups(tree) == {"posterior", "sample_stats", "observed_data"}


class TestContents:
    def test_log_likelihood_is_pointwise(self, tree: Any) -> None:
        theta = torch.tensor(tree["posterior"]["theta"].values)
        wanted = dist.Normal(theta, SIGMA).log_prob(Y)
        np.testing.assert_allclose(tree["log_likelihood"]["y"].values, wanted.numpy(), rtol=1e-5)

    def test_replicated_data_have_the_spread_of_the_likelihood(self, tree: Any) -> None:
        new = tree["posterior_predictive"]["y"].values - tree["posterior"]["theta"].values
        spread = (new / SIGMA.numpy()).ravel()
        assert abs(spread.mean()) < 4 / math.sqrt(1600)
        assert abs(spread.var() - 1) < 4 * math.sqrt(2 / 1600)

    def test_the_prior_is_the_prior(self, tree: Any) -> None:
        prior = tree["prior"]
        assert abs(float(prior["mu"].mean()) - 4) < 4 * 3 / math.sqrt(300)
        theta = prior["mu"] + prior["tau"] * prior["eta"]
        np.testing.assert_allclose(prior["theta"].values, theta.values, rtol=1e-5)
        noise = ((tree["prior_predictive"]["y"] - prior["theta"]).values / SIGMA.numpy()).ravel()
        assert abs(noise.var() - 1) < 4 * math.sqrt(2 / 2400)

    def test_the_guide_s_draws_are_the_guide_s(self, tree: Any) -> None:
        np.testing.assert_allclose(
            tree["guide"]["eta"].values.mean((0, 1)), np.arange(8.0), atol=4 * 0.01 / 30
        )
        assert float(tree["guide"]["tau"].std()) > 0.5
        theta = tree["guide"]["mu"] + tree["guide"]["tau"] * tree["guide"]["eta"]
        np.testing.assert_allclose(tree["guide"]["theta"].values, theta.values, rtol=1e-4)

    def test_a_guide_of_pyro_s(self) -> None:
        guide = AutoNormal(schools)
        tree = to_arviz(eight(), model=schools, args=(Y,), guide=guide, guide_draws=50, seed=0)
        assert set(tree["guide"].data_vars) == {"mu", "tau", "eta", "theta"}
        assert dict(tree["guide"].sizes) == {"chain": 1, "draw": 50, "schools": 8}

    def test_a_seed_repeats_and_nothing_is_left_behind(self) -> None:
        state, draws = torch.get_rng_state(), eight()
        torch.set_rng_state(state)
        one, two = (to_arviz(draws, model=schools, args=(Y,), seed=4) for _ in range(2))
        assert torch.equal(torch.get_rng_state(), state)
        np.testing.assert_array_equal(
            one["posterior_predictive"]["y"].values, two["posterior_predictive"]["y"].values
        )
        assert not pyro.get_param_store().keys()


class TestAxes:
    def test_a_single_chain_and_axes_of_size_one_are_kept(self) -> None:
        def model(y: Tensor) -> None:
            scale = pyro.sample("scale", dist.LogNormal(torch.zeros(1), 1.0).to_event(1))
            with pyro.plate("data", y.shape[0]):
                z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
                pyro.sample("y", dist.Normal(z, scale).to_event(1), obs=y)

        draws = made(
            1,
            6,
            {"scale": ("",), "z": ("data", "")},
            scale=torch.rand(1, 6, 1),
            z=torch.randn(1, 6, 1, 1),
        )
        tree = to_arviz(draws, model=model, args=(torch.ones(1, 1),), prior_draws=4)
        assert dict(tree["posterior"]["z"].sizes) == {
            "chain": 1,
            "draw": 6,
            "data": 1,
            "z_dim_1": 1,
        }
        assert dict(tree["posterior"]["scale"].sizes) == {"chain": 1, "draw": 6, "scale_dim_0": 1}
        assert dict(tree["log_likelihood"]["y"].sizes) == {"chain": 1, "draw": 6, "data": 1}
        assert dict(tree["posterior_predictive"]["y"].sizes) == {
            "chain": 1,
            "draw": 6,
            "data": 1,
            "y_dim_1": 1,
        }
        assert dict(tree["observed_data"]["y"].sizes) == {"data": 1, "y_dim_1": 1}
        assert dict(tree["prior"]["z"].sizes) == {"chain": 1, "draw": 4, "data": 1, "z_dim_1": 1}
        assert len(arviz.summary(tree)) == 2

    def test_two_plates_and_an_event_axis(self) -> None:
        def model(y: Tensor) -> None:
            rows = pyro.plate("rows", 2, dim=-2)
            with pyro.plate("columns", 3, dim=-1):
                b = pyro.sample("b", dist.Normal(0.0, 1.0))
                with rows:
                    pyro.sample(
                        "y", dist.Normal(torch.zeros(4), 1.0).to_event(1), obs=y + 0 * b[..., None]
                    )

        draws = made(2, 5, {"b": ("columns",)}, b=torch.randn(2, 5, 3))
        tree = to_arviz(draws, model=model, args=(torch.ones(2, 3, 4),), prior_draws=0)
        assert dict(tree["posterior_predictive"]["y"].sizes) == {
            "chain": 2,
            "draw": 5,
            "rows": 2,
            "columns": 3,
            "y_dim_2": 4,
        }
        assert tree["log_likelihood"]["y"].dims == ("chain", "draw", "rows", "columns")
        wanted = float(dist.Normal(torch.zeros(4), 1.0).log_prob(torch.ones(4)).sum())
        np.testing.assert_allclose(tree["log_likelihood"]["y"].values, wanted, rtol=1e-5)

    def test_axes_without_a_plate_are_pointwise_too(self) -> None:
        def bare(y: Tensor) -> None:
            pyro.sample("y", dist.Normal(pyro.sample("mu", dist.Normal(0.0, 1.0)), SIGMA), obs=y)

        tree = to_arviz(made(mu=torch.randn(2, 100)), model=bare, args=(Y,), prior_draws=0)
        assert dict(tree["log_likelihood"]["y"].sizes) == {"chain": 2, "draw": 100, "y_dim_0": 8}

    def test_a_deterministic_site_has_the_same_axes_in_all_groups(self) -> None:
        def model(y: Tensor) -> None:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            with pyro.plate("data", y.shape[0]):
                mean = pyro.deterministic("mean", z.expand(y.shape), event_dim=1)
                pyro.sample("y", dist.Normal(mean, 1.0).to_event(1), obs=y)

        dims = {"z": (), "mean": ("data", "")}
        z = torch.randn(2, 5)
        draws = made(2, 5, dims, z=z, mean=z[..., None, None].expand(2, 5, 4, 3))
        tree = to_arviz(draws, model=model, args=(torch.ones(4, 3),), prior_draws=6)
        for group in ("posterior", "prior"):
            assert tree[group]["mean"].dims == ("chain", "draw", "data", "mean_dim_1")

    def test_names_that_clash(self) -> None:
        """A plate named as a site, as ArviZ's own axis, and two of one name."""
        dims = {"x": ("x",), "a": ("draw",), "b": ("group",), "c": ("group",), "deep/d": ("",)}
        sizes = {"x": 3, "a": 2, "b": 4, "c": 5, "deep/d": 2}
        posterior = to_arviz(
            made(2, 10, dims, **{n: torch.randn(2, 10, k) for n, k in sizes.items()})
        )["posterior"]
        axes = {name: posterior[name].dims[2:] for name in ("x", "a", "b", "c", "deep.d")}
        assert axes == {
            "x": ("x_plate",),
            "a": ("draw_plate",),
            "b": ("group",),
            "c": ("group_5",),
            "deep.d": ("deep.d_dim_0",),
        }

    def test_local_draws(self) -> None:
        program = toy.PPCA(torch.tensor([[1.0], [0.5]]), torch.zeros(2), 0.5)
        x = program.model(None, n=5)
        z = program.exact_posterior(x).sample((2, 30))
        stats = (torch.randn(2, 30, 5), torch.rand(2, 30, 5) < 0.1, torch.rand(2, 30, 5))
        draws = Draws({"z": z}, *stats, seconds=1.0, dims={"z": ("data", "")})
        tree = to_arviz(
            draws,
            model=program.model,
            args=(x,),
            guide=program.guide,
            guide_draws=20,
            prior_draws=10,
        )
        assert tree["posterior"]["z"].dims == ("chain", "draw", "data", "z_dim_1")
        assert dict(tree["posterior_predictive"]["x"].sizes) == {
            "chain": 2,
            "draw": 30,
            "data": 5,
            "x_dim_1": 2,
        }
        assert dict(tree["log_likelihood"]["x"].sizes) == {"chain": 2, "draw": 30, "data": 5}
        np.testing.assert_allclose(
            tree["sample_stats"]["lp"].values, stats[0].sum(-1).numpy(), rtol=1e-5
        )
        assert tree["sample_stats"]["diverging_local"].dims == ("chain", "draw", "data")
        assert (
            tree["sample_stats"]["diverging"] == tree["sample_stats"]["diverging_local"].any("data")
        ).all()
        assert dict(tree["guide"]["z"].sizes) == {"chain": 1, "draw": 20, "data": 5, "z_dim_1": 1}


class TestDiscrete:
    def test_states_are_summed_out_and_drawn_from_the_prior(self) -> None:
        mixture = toy.OrderedMixture.simulated(12)
        locs = torch.randn(2, 7, 2).sort().values
        tree = to_arviz(
            made(2, 7, locs=locs), model=mixture.model, args=mixture.data, prior_draws=9
        )
        terms = (
            dist.Normal(locs[:, :, None], mixture.scale).log_prob(mixture.x[:, None])
            + mixture.weights.log()
        )
        got = tree["log_likelihood"]["x"]
        assert got.dims == ("chain", "draw", "data")
        np.testing.assert_allclose(got.values, terms.logsumexp(-1).numpy(), rtol=1e-5)
        assert tree["prior"]["z"].dtype == np.int64
        assert dict(tree["prior"]["z"].sizes) == {"chain": 1, "draw": 9, "data": 12}
        assert "z" not in tree["posterior"]

    @pytest.mark.parametrize(
        ("steps", "said"),
        [(4, ".*one datum each.*"), (70, ".*at most 49 discrete latents, got more")],
    )
    def test_a_chain_of_states_has_no_likelihood_of_one_datum(self, steps: int, said: str) -> None:
        markov = toy.HiddenMarkov.simulated(steps)
        draws = made(2, 5, locs=torch.randn(2, 5, 2).sort().values)
        with pytest.raises(
            ValueError, match=rf"'log_likelihood' cannot be made: {said}; say log_likelihood=False"
        ):
            to_arviz(draws, model=markov.model, args=markov.data)
        tree = to_arviz(
            draws, model=markov.model, args=markov.data, log_likelihood=False, prior_draws=3
        )
        assert set(tree["posterior_predictive"].data_vars) == {f"x_{t}" for t in range(steps)}


class TestArviz:
    @pytest.mark.long
    def test_it_is_imported_when_it_is_needed(self, tmp_path: Path) -> None:
        code = (
            "import sys, ppl_gen.inference; "
            "print([m for m in ('arviz', 'xarray', 'pandas') if m in sys.modules])"
        )
        output = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=tmp_path)
        assert output.strip() == "[]"

    def test_summary(self, tree: Any) -> None:
        assert {"mu", "tau", "eta[A]", "theta[H]"} <= set(arviz.summary(tree).index)

    @pytest.mark.filterwarnings("ignore")
    def test_loo_and_compare(self, tree: Any) -> None:
        loo = arviz.loo(tree)
        assert loo.n_data_points == 8
        other = to_arviz(made(mu=4 + 3 * torch.randn(2, 100)), model=pooled, args=(Y,))
        table = arviz.compare({"hierarchical": tree, "pooled": other})
        assert set(table.index) == {"hierarchical", "pooled"}

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("plot_trace", {}),
            ("plot_trace_dist", {}),
            ("plot_forest", {}),
            ("plot_pair", {"var_names": ["mu", "tau"]}),
            ("plot_rank", {}),
            ("plot_posterior", {}),
            ("plot_dist", {}),
            ("plot_ppc", {}),
            ("plot_ppc_dist", {}),
            ("plot_prior_posterior", {"var_names": ["mu"]}),
            ("plot_dist_comparison", {"var_names": ["mu"]}),
        ],
    )
    def test_plots(self, tree: Any, name: str, options: dict[str, Any]) -> None:
        if not hasattr(arviz, name):
            pytest.skip(f"ArviZ {arviz.__version__} has no {name}")
        if name == "plot_dist" and int(arviz.__version__.split(".")[0]) < 1:
            pytest.skip("takes arrays below ArviZ 1.0")
        assert getattr(arviz, name)(tree, **options) is not None
        assert pyplot.get_fignums()
        pyplot.close("all")

    def test_nuts_from_end_to_end(self) -> None:
        draws = nuts(pooled, Y, draws=50, warmup=50, chains=2, seed=0)
        tree = to_arviz(draws, model=pooled, args=(Y,), seed=0)
        assert dict(tree["log_likelihood"]["y"].sizes) == {"chain": 2, "draw": 50, "schools": 8}


class TestNetcdf:
    def test_it_comes_back_as_it_went(self, tree: Any, tmp_path: Path) -> None:
        save_netcdf(tree, tmp_path / "draws.nc")
        back = arviz.from_netcdf(str(tmp_path / "draws.nc"))
        assert groups(back) == groups(tree)
        for group in groups(tree):
            for name, variable in tree[group].data_vars.items():
                again = back[group][name]
                assert again.dims == variable.dims
                assert again.dtype == variable.dtype
                np.testing.assert_array_equal(again.values, variable.values)
        assert back["sample_stats"]["diverging"].dtype == bool
        assert back["posterior"].coords["schools"].values.tolist() == NAMES

    def test_booleans_integers_and_halves(self, tmp_path: Path) -> None:
        values = torch.arange(20).reshape(2, 10)
        draws = made(2, 10, count=values, even=values % 2 == 0, half=values.bfloat16())
        save_netcdf(to_arviz(draws), tmp_path / "draws.nc")
        back = arviz.from_netcdf(str(tmp_path / "draws.nc"))["posterior"]
        assert [back[n].dtype for n in ("count", "even", "half")] == [np.int64, bool, np.float32]
        assert back["even"].values.sum() == 10

    def test_a_failed_write_leaves_the_old_file(self, tree: Any, tmp_path: Path) -> None:
        path = tmp_path / "draws.nc"
        save_netcdf(tree, path)
        before = path.read_bytes()

        class Full:
            subtree = ()

            def to_netcdf(self, target: Path, engine: str) -> None:
                target.write_text("half")
                raise OSError("disk full")

        with pytest.raises(OSError, match="disk full"):
            save_netcdf(Full(), path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]


def unseen(y: Tensor) -> None:
    pyro.sample("mu", dist.Normal(0.0, 1.0))


def flat(y: Tensor) -> None:
    mu = pyro.sample("mu", dist.ImproperUniform(dist.constraints.real, (), ()))
    with pyro.plate("data", 8):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def masked(y: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0).mask(False))
    with pyro.plate("data", 8):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def partial(y: Tensor) -> None:
    pyro.sample("mu", dist.Normal(0.0, 1.0))


class Factored(nn.Module):
    def model(self, y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        pyro.factor("likelihood", -(y - mu).square().sum())


class TestNothingIsDropped:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (
                {"model": unseen},
                r"cannot be made: the model observes nothing; say posterior_predictive=False",
            ),
            (
                {"model": unseen, "posterior_predictive": False},
                r"'log_likelihood' cannot be made: .*; say log_likelihood=False",
            ),
            (
                {"model": Factored().model},
                r"'posterior_predictive' cannot be made: the model observes nothing",
            ),
            (
                {"model": flat},
                r"'prior' cannot be made: the prior of 'mu' is improper; say prior_draws=0",
            ),
            (
                {"model": masked},
                r"'prior' cannot be made: the prior of 'mu' is improper; say prior_draws=0",
            ),
            (
                {"guide": partial},
                r"'guide' cannot be made: its latents are not known without the model; pass model=",
            ),
            (
                {"model": pooled, "guide": lambda y: None},
                r"'guide' cannot be made: it does not sample \['mu'\]; pass a guide",
            ),
            (
                {"model": pooled, "guide": lambda: None},
                r"'guide' cannot be made: it cannot be called with args",
            ),
            (
                {"model": pooled, "guide": partial, "guide_draws": 0},
                "expected guide_draws of at least 1, got 0",
            ),
            (
                {"model": pooled, "args": ()},
                r"a model that can be run at the draws, got the error: .*missing 1 required",
            ),
            (
                {"model": schools},
                r"expected draws of every latent of the model, got none of \['eta', 'tau'\]",
            ),
            (
                {"model": pooled, "coords": {"school": NAMES}},
                r"for dimensions among \['schools'\], got some for \['school'\]",
            ),
            (
                {"model": pooled, "coords": {"schools": ["A"]}},
                r"coords of length 8 for the dimension 'schools', got 1",
            ),
        ],
    )
    def test_what_cannot_be_made_is_said(self, options: dict[str, Any], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            to_arviz(made(mu=torch.randn(2, 100)), **{"args": (Y,), **options})

    def test_other_data_than_were_sampled_with(self) -> None:
        program = toy.PPCA(torch.tensor([[1.0], [0.5]]), torch.zeros(2), 0.5)
        draws = made(2, 10, {"z": ("data", "")}, z=torch.randn(2, 10, 5, 1))
        with pytest.raises(ValueError, match=r"; pass the .*args that were sampled"):
            to_arviz(draws, model=program.model, args=(torch.zeros(7, 2),))

    def test_dims_that_do_not_fit(self) -> None:
        with pytest.raises(ValueError, match="expected 0 names for the axes of 'mu' in dims, got"):
            to_arviz(made(2, 100, {"mu": ("data",)}, mu=torch.randn(2, 100)))
