"""Every result is short in a terminal, says its verdict first in a notebook, and gives tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import is_dataclass, replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from matplotlib.figure import Figure
from pyro.distributions import Normal

from ppl_gen import inference
from ppl_gen.inference import (
    Amortisation,
    Calibration,
    Codes,
    Collapse,
    Comparison,
    Compressed,
    Corrected,
    Criticism,
    CycleErrors,
    Draws,
    Estimate,
    GameFit,
    Gaps,
    GradedPosterior,
    GuideChoice,
    GuideFit,
    Imputation,
    KHatBelow,
    Matched,
    PrecisionRecall,
    ProgramFit,
    RateDistortionCurve,
    Record,
    Result,
    Sandwich,
    Share,
    attribute_directions,
    classifier_test,
    detection,
    moments,
    precision_recall,
    two_sample_test,
)
from ppl_gen.inference.codes.neighbours import Retrieval
from ppl_gen.inference.codes.overlap import Overlap
from ppl_gen.inference.comparison.marginals import Marginals
from ppl_gen.inference.diagnosis.criticism import Difference
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.posteriors.graded import Stage, Standing
from ppl_gen.inference.posteriors.ladder import Climbed
from ppl_gen.inference.posteriors.simulators import SimulatorProgram
from ppl_gen.inference.prediction.loo import Elpd

N = 300
K = 40
# Of training, networks, or what is asked for.
NO_RESULTS = {
    "AdversarialLoss",
    "Amortised",
    "ByDatum",
    "Classifier",
    "Codes",
    "GapBelow",
    "GaussianMixtureByDatum",
    "KHatBelow",
    "LowRankByDatum",
    "PCA",
    "Pathfinder",
    "Record",
}


def estimated(k_hat: float | None = None) -> Estimate:
    value = torch.linspace(-30.0, -20.0, N)
    worst = None if k_hat is None else torch.full((N,), k_hat)
    return Estimate(value, torch.full((N,), 0.1), k_hat=worst)


def drawn(names: tuple[str, ...] = ("z",)) -> Draws:
    generator = torch.Generator().manual_seed(0)
    samples = {name: torch.randn(4, 20, K, generator=generator) for name in names}
    zeros = torch.zeros(4, 20)
    return Draws(samples, zeros, zeros.bool(), zeros + 1, 1.0, sampler="independent")


def corrected() -> Corrected:
    zeros = torch.zeros(N, K)
    how = np.array(["guide", "weighted", "hmc"] * (N // 3))
    return Corrected(
        draws={"z": torch.zeros(5, N, K)},
        mean={"z": zeros},
        sd={"z": zeros + 1},
        error={"z": zeros + 0.1},
        log_density=torch.zeros(5, N),
        how=how,
        bound=torch.linspace(0.1, 2.0, N),
        ess=torch.linspace(400.0, 4000.0, N),
        k_hat=torch.linspace(0.0, 1.0, N),
        r_hat=torch.full((N,), 1.2),
        size=torch.linspace(10.0, 4000.0, N),
        min_ess=400,
        particles=4000,
        gradients=100,
        left_out={"z": "Uniform"},
    )


def amortised() -> Amortisation:
    ranks = torch.randint(100, (N, 2), generator=torch.Generator().manual_seed(0))
    return Amortisation(
        program=SimulatorProgram(Normal(0.0, 1.0), torch.zeros_like, torch.nn.Linear(1, 1)),
        calibration=Calibration({"theta": ranks}, 99),
        information=estimated().mean(),
        simulations=100,
        held_out=torch.zeros(3),
        seconds=1.0,
    )


def matched() -> Matched:
    one = Estimate(torch.zeros(2), torch.ones(2))
    return Matched(
        estimate=one,
        covariance=torch.eye(2),
        line=one,
        gap=estimated(),
        statistic=400.0,
        degrees=298.0,
        p_value=1e-4,
        derivatives="pathwise",
        data=N,
        draws=20,
        runs=9,
        has_converged=True,
        is_identified=True,
        seconds=1.0,
        transform=torch.exp,
    )


def chosen() -> GuideChoice:
    rungs = []
    for name in ("as it is", "full"):
        rung = Climbed(
            name=name,
            guide=None,
            elbo=estimated(),
            evidence=estimated(0.9),
            gap=estimated().mean(),
            bad=Share.of(torch.ones(N)),
            seconds=1.0,
        )
        rungs.append(rung)
    return GuideChoice(
        rungs=tuple(rungs), chosen=1, reached=False, until=KHatBelow(0.1), particles=1000
    )


def gaps() -> Gaps:
    below = estimated() - torch.linspace(0.0, 2.0, N)
    return Gaps(evidence=estimated(0.3), elbo=below - 1, refitted=below, richer=below + 0.1)


def collapse(name: str = "z") -> Collapse:
    nats = estimated() + 30
    return Collapse(
        names=[f"{name}[{i}]" for i in range(K)],
        means=torch.randn(N, K, generator=torch.Generator().manual_seed(0)),
        sds=torch.full((N, K), 0.5),
        prior_mean=torch.zeros(K),
        prior_sd=torch.ones(K),
        kl=torch.linspace(0.0, 1.0, K),
        activity=torch.linspace(0.0, 1.0, K),
        active=torch.linspace(0.0, 1.0, K) > 0.01,
        rate=nats,
        mutual_information=nats,
        marginal_kl=nats,
        at_least=nats,
        at_most=nats,
    )


def compared() -> Comparison:
    draws = drawn()
    chains = draws.samples["z"]
    guide = chains.flatten(0, 1) / 2
    names = [f"z[{i}]" for i in range(K)]
    marginals = Marginals.of(names, torch.zeros(K), guide, chains)
    one = estimated(0.9)[:1]
    return Comparison(
        draws=draws,
        guide_samples={"z": guide},
        exact_samples=None,
        marginals=marginals,
        unconstrained=marginals,
        correlations={"guide": torch.eye(K)[None]},
        distance=torch.ones(1),
        distance_baseline=torch.ones(1),
        evidence={"elbo": one, "importance": one},
        divergence={"KL(q‖p)": one},
        outside=torch.zeros(1),
        left_out=torch.zeros(1),
        elpd={"mcmc": Elpd.of(torch.zeros(N), torch.ones(N), 0.0, "loo")},
        seconds={"mcmc": 1.0},
        unavailable={},
        particles=80,
        findings=(Finding("under-dispersed", "the guide is half as wide as the posterior"),),
    )


def graded() -> GradedPosterior:
    draws = drawn()
    numbers = Standing(ess=900.0, error=0.03, divergent=0.0, r_hat=1.005, k_hat=0.9)
    stage = Stage("hmc", "4 × 20 draws after 10", 1.0, 4000)
    return GradedPosterior(
        draws=draws, grade="good", numbers=numbers, how={"z": "hmc"}, stages=(stage,), guide=None
    )


def calibration() -> Calibration:
    ranks = torch.randint(100, (N, K), generator=torch.Generator().manual_seed(0))
    return Calibration({"z": ranks, "log p(x | z)": ranks[:, 0]}, 99)


def imputation() -> Imputation:
    missing = torch.zeros(N, K, dtype=torch.bool)
    missing[:, 0] = True
    return Imputation(
        mean=torch.ones(N, K),
        standard_error=torch.full((N, K), 0.1),
        draws=torch.linspace(0.0, 1.0, 20).reshape(20, 1, 1).expand(20, N, K),
        missing=missing,
        ess=torch.full((N,), 40.0),
        k_hat=torch.full((N,), 0.3),
        particles=100,
    )


def curve() -> RateDistortionCurve:
    both = torch.linspace(1.0, 9.0, 3 * N).reshape(3, N)
    return RateDistortionCurve(
        betas=torch.tensor([1.0, 2.0, 4.0]),
        rate=Estimate(both, both / 100, ess=both),
        distortion=Estimate(1 / both, both / 100, ess=both),
        dimensions=K,
        chains=9,
    )


def criticism() -> Criticism:
    p_values = torch.linspace(0.0, 1.0, N).tolist()
    differences = []
    for place, p in enumerate(p_values):
        differences.append(
            Difference(
                group=f"class {place % 3}",
                feature=f"x[{place}]",
                kind="mean",
                draws=1.0,
                data=2.0,
                z=p - 1,
                p_value=p,
                adjusted=p,
            )
        )
    return Criticism(tuple(differences), level=0.95, data=N, draws=4, permutations=99)


def compressed() -> Compressed:
    return Compressed(
        words=np.arange(9, dtype=np.uint32),
        count=N,
        shape=(1, 4, 4),
        dtype="float32",
        latents=2,
        precision=8,
        rows=128,
        growth=8,
        initial_words=2,
        weights=bytes(8),
        arithmetic=bytes(8),
    )


def directions() -> Any:
    codes = torch.randn(80, K, generator=torch.Generator().manual_seed(0))
    return attribute_directions(codes, torch.arange(80) % 2, torch.arange(80) % 4 > 1)


def detected() -> Any:
    novel = torch.arange(N) < 30
    return detection({"odd": novel + torch.linspace(0.0, 2.0, N), "blind": torch.zeros(N)}, novel)


def overlaps() -> Overlap:
    codes = Codes(torch.randn(N, 2, generator=torch.Generator().manual_seed(0)), torch.ones(N, 2))
    return Overlap(codes, torch.eye(N), torch.linspace(0.0, 1.0, N), torch.arange(N) % 3)


def retrieved() -> Retrieval:
    precision = torch.linspace(0.0, 1.0, N)
    return Retrieval(
        by_code=precision,
        by_pixels=precision / 2,
        labels=torch.arange(N) % 3,
        k=10,
        by_chance=1 / 3,
    )


def samples() -> tuple[torch.Tensor, torch.Tensor]:
    first, second = torch.randn(2, 60, 3, generator=torch.Generator().manual_seed(3))
    return first, second


# A row for each kind of result: how it is made, and how many rows `to_pandas` has.
def epochs(metrics: dict[str, float]) -> list[Record]:
    return [Record(epoch, metrics, 100, 0.1) for epoch in range(1, 31)]


RESULTS: dict[str, tuple[Callable[[], Any], int]] = {
    "Estimate": (lambda: estimated(0.9), N),
    "Share": (lambda: Share.of(torch.arange(9) < 2), 1),
    "Draws": (drawn, 4 * 20),
    "GradedPosterior": (graded, 4 * 20),
    "Elpd": (lambda: Elpd.of(torch.zeros(N), torch.ones(N), 0.0, "loo"), N),
    "Gaps": (gaps, N),
    "Sandwich": (lambda: Sandwich(estimated(), estimated() + 1, torch.zeros(N, 2)), N),
    "Collapse": (collapse, N),
    "Calibration": (calibration, N),
    "Comparison": (compared, K),
    "Marginals": (lambda: compared().marginals, K),
    "Moments": (lambda: moments(*samples()), 3 + 6 + 3 + 3),
    "TwoSample": (lambda: two_sample_test(*samples(), permutations=50, seed=0), 50),
    "ClassifierTest": (lambda: classifier_test(*samples(), permutations=50, seed=0), 50),
    "PrecisionRecall": (lambda: precision_recall(*samples(), splits=2, seed=0), 4),
    "GuideFit": (lambda: GuideFit(guide=None, objective=torch.linspace(-9.0, 0.0, N)), N),
    "ProgramFit": (lambda: ProgramFit(epochs({"elbo": -20.0})), 30),
    "GameFit": (
        lambda: GameFit(None, epochs({"critic": 1.3, "generator": 0.7, "spread": 0.9}), 0.0),
        30,
    ),
    "Imputation": (imputation, N),
    "Corrected": (corrected, N),
    "GuideChoice": (chosen, N),
    "Amortisation": (amortised, N),
    "Matched": (matched, N),
    "Compressed": (compressed, 1),
    "RateDistortionCurve": (curve, 3 * N),
    "Criticism": (criticism, N),
    "Directions": (directions, K),
    "Detection": (detected, N),
    "Overlap": (overlaps, N),
    "Retrieval": (retrieved, N),
    "CycleErrors": (
        lambda: CycleErrors(estimated() + 31, estimated() + 31, estimated() + 40, estimated() + 40),
        2 * N,
    ),
}
DRAWABLE = (
    "Draws",
    "Gaps",
    "Sandwich",
    "Collapse",
    "Calibration",
    "Comparison",
    "Criticism",
    "Detection",
    "Moments",
    "RateDistortionCurve",
    "TwoSample",
)


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return {name: make() for name, (make, _) in RESULTS.items()}


def test_every_kind_of_result_has_a_row() -> None:
    known = set()
    for name in inference.__all__:
        thing = getattr(inference, name)
        if isinstance(thing, type) and (is_dataclass(thing) or hasattr(thing, "_fields")):
            known.add(name)
    assert known - NO_RESULTS <= RESULTS.keys()


@pytest.mark.parametrize("name", RESULTS)
class TestEveryResult:
    def test_it_is_short_and_without_tensors(self, made: dict[str, Any], name: str) -> None:
        shown = repr(made[name])
        assert 0 < len(shown) < 2000
        assert "tensor(" not in shown
        assert "array(" not in shown

    def test_it_has_verdict_and_tables(self, made: dict[str, Any], name: str) -> None:
        found = made[name]
        assert isinstance(found, Result)
        assert isinstance(found.verdict, Verdict)
        for table in (found.table(), found.to_pandas()):
            assert isinstance(table, pandas.DataFrame)
            assert table.notna().any().any()
            assert table.columns.is_unique
        assert len(found.to_pandas()) == RESULTS[name][1]

    def test_a_notebook_shows_the_verdict_first_and_folds_the_table(
        self, made: dict[str, Any], name: str
    ) -> None:
        found = made[name]
        html = found._repr_html_()
        seen = _Seen()
        seen.feed(html)
        assert not seen.open
        assert html.count("<details>") == html.count("<table") == 1
        assert html.index("<details>") < html.index("<table")
        before = " ".join(seen.before_details.split())
        for sentence in found.verdict:
            assert " ".join(sentence.split()) in before
        assert found.headline in seen.before_details
        for colour in ("color", "background"):
            assert colour not in html


class _Seen(HTMLParser):
    """Checks that tags are closed in order, and collects what stands before the table."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.before_details = ""
        self.folded = False

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        self.folded |= tag == "details"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.folded:
            self.before_details += data


@pytest.mark.parametrize("name", DRAWABLE)
def test_it_draws_itself(made: dict[str, Any], name: str) -> None:
    figure = made[name].plot(title="so far")
    assert isinstance(figure, Figure)
    figure.canvas.draw()


def test_names_are_escaped() -> None:
    html = collapse("<script>")._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;[3]" in html
    shown = Verdict((Finding("one", "1 < 2 & <b>"),))._repr_html_()
    assert "1 &lt; 2 &amp; &lt;b&gt;" in shown


def test_a_long_text_is_cut_in_a_terminal_alone() -> None:
    draws = replace(drawn(), remarks=("a long story. " * 300,))
    assert len(repr(draws)) < 2000
    assert repr(draws).endswith("… (print it to see all)")
    assert str(draws).count("a long story") == 300


def test_many_coordinates_are_diagnosed_when_asked_for() -> None:
    draws = drawn(tuple("abcdef"))
    assert "240 coordinates; .verdict and .table() diagnose them" in draws._repr_html_()
    assert "r_hat" not in vars(draws)


class TestWhatTheySay:
    """Verdicts of results that had none."""

    def test_a_gap_bounds_ais(self) -> None:
        loose = Sandwich(estimated(), estimated() + 1, torch.zeros(N, 2)).verdict
        assert (loose.tags, loose.passes) == (("bounded",), None)
        crossed = Sandwich(estimated(), estimated() - 1, torch.zeros(N, 2)).verdict
        assert (crossed.tags, crossed.passes) == (("crossed",), False)

    def test_two_samples(self) -> None:
        x, y = samples()
        alike = two_sample_test(x, y, permutations=99, seed=0).verdict
        assert (alike.tags, alike.passes) == (("alike",), True)
        apart = two_sample_test(x, y + 3, permutations=99, seed=0).verdict
        assert (apart.tags, apart.passes) == (("different",), False)
        told = classifier_test(x, y + 3, permutations=99, seed=0).verdict
        assert told.tags == ("different",)

    def test_fidelity_and_diversity(self) -> None:
        generator = torch.Generator().manual_seed(1)
        x, y = torch.randn(2, 200, 2, generator=generator)
        assert _judged(y, x).tags == ("alike",)
        assert _judged(y / 3, x).tags == ("not-covered",)
        assert _judged(y * 4, x).tags == ("sparse", "not-covered")
        half = torch.where(y[:, :1] > 0, y, -y)
        assert "not-covered" in _judged(half, x).tags

    def test_coverage_of_equal_distributions(self) -> None:
        """Its average over 40 repetitions, within four standard errors."""
        generator = torch.Generator().manual_seed(2)
        found = []
        for _ in range(40):
            x = torch.randn(60, 2, generator=generator)
            y = torch.randn(90, 2, generator=generator)
            found.append(precision_recall(y, x, k=3, splits=1, seed=0))
        coverages = torch.tensor([float(one.coverage) for one in found])
        error = float(coverages.std()) / 40**0.5
        assert abs(float(coverages.mean()) - found[0].coverage_if_equal) < 4 * error

    def test_a_cycle(self) -> None:
        small, large = estimated() + 31, estimated() + 60
        assert CycleErrors(small, small, large, large).verdict.tags == ("returns",)
        assert CycleErrors(large, small, small, large).verdict.tags == ("lost",)

    def test_leaving_one_out(self) -> None:
        values = torch.zeros(3)
        bad = Elpd.of(values, torch.tensor([0.1, 0.8, 0.9]), 0.0, "loo").verdict
        assert bad.tags == ("unreliable",)
        assert "k̂ of 2 of 3 data is above 0.7 (up to 0.90)" in bad
        assert Elpd.of(values, values, 0.0, "loo").verdict.passes is True
        assert Elpd.of(values, None, 0.0, "exact").verdict.passes is None


def _judged(sample: torch.Tensor, data: torch.Tensor) -> Verdict:
    found: PrecisionRecall = precision_recall(sample, data, splits=5, seed=0)
    return found.verdict


def test_finest_rows_agree_with_the_table(made: dict[str, Any]) -> None:
    gaps_by_datum = made["Gaps"].to_pandas()
    assert gaps_by_datum["amortisation"].mean() == pytest.approx(
        made["Gaps"].table().loc["amortisation", "value"]
    )
    draws = made["Draws"]
    assert draws.to_pandas()["z[3]"].mean() == pytest.approx(draws.table().loc["z[3]", "mean"])
    by_moment = made["Moments"].to_pandas()
    table = made["Moments"].table()
    for kind, row in table.iterrows():
        assert by_moment.loc[row["farthest"], "z"] == pytest.approx(row["z"])
        assert (by_moment["kind"] == kind).sum() == row["compared"]
    comparison = made["Comparison"].to_pandas()
    assert list(comparison.columns[:2]) == ["guide mean", "guide sd"]
    assert {"shift", "coverage 95%", "r_hat"} <= set(comparison.columns)
