"""When a fit stops, which epoch is kept, and what validation measures."""

from __future__ import annotations

import math

import pytest
import torch

from ppl_gen.contexts import seeded
from ppl_gen.data import Split
from ppl_gen.inference import Patience, Record, Validation, elbo, fit, iterate, svi_step
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.models import VAE, cvae, toy, vae


def record(epoch: int, value: float, metric: str = "validation_elbo") -> Record:
    return Record(epoch, {metric: value}, 1, 1.0)


def seen(patience: Patience, values: list[float]) -> list[bool]:
    return [patience(record(epoch, value)) for epoch, value in enumerate(values, 1)]


class TestPatience:
    def test_it_waits_for_so_many_epochs_and_remembers_the_best(self) -> None:
        patience = Patience(3)
        assert seen(patience, [-5, -4, -4.5, -4, -4.2]) == [False, False, False, False, True]
        assert (patience.best, patience.is_over) == (2, True)

    def test_what_is_below_the_gain_does_not_count(self) -> None:
        patience = Patience(2, gain=0.5)
        assert seen(patience, [-5, -4.8, -4.6]) == [False, False, True]
        assert patience.best == 1

    def test_a_metric_without_a_number_is_no_gain(self) -> None:
        patience = Patience(2)
        assert seen(patience, [math.nan, math.nan]) == [False, True]
        assert patience.best is None

    def test_it_goes_on_from_its_state(self) -> None:
        values = [-5.0, -4.0, -6.0, -3.0, -4.0, -4.0]
        whole, first, second = Patience(2), Patience(2), Patience(2)
        expected = seen(whole, values)
        said = seen(first, values[:3])
        second.load_state_dict(first.state_dict())
        said += [second(record(epoch, values[epoch - 1])) for epoch in range(4, 7)]
        assert said == expected
        assert second.state_dict() == whole.state_dict()

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"epochs": 0}, "epochs of at least 1, got 0"),
            ({"epochs": 1.5}, "epochs as a whole number, got 1.5"),
            ({"epochs": 2, "gain": -1.0}, "finite gain of at least 0, got -1"),
            ({"epochs": 2, "gain": math.inf}, "finite gain of at least 0, got inf"),
        ],
    )
    def test_bad_numbers_are_refused(self, given: dict[str, float], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Patience(**given)  # type: ignore[arg-type]

    def test_a_record_without_the_metric_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"'validation_elbo' in each epoch, got elbo; say fit"):
            Patience(2)(record(1, -3.0, "elbo"))

    def test_one_rule_is_of_one_fit(self) -> None:
        patience = Patience(2)
        patience(record(1, -3.0))
        with pytest.raises(ValueError, match=r"an epoch after 1, .* make a new Patience"):
            patience(record(1, -2.0))

    def test_the_state_of_something_else_is_refused(self) -> None:
        with pytest.raises(ValueError, match="in the state of a Patience, got lr"):
            Patience(2).load_state_dict({"lr": 0.1})


def small(seed: int = 0) -> tuple[VAE, Split, Split]:
    """A VAE of binary vectors, few of which it can learn by heart, and its two parts of data."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        program = vae((6,), 2, hidden=(16,))
        data = Split((torch.rand(40, 6) < 0.5).float())
    kept, held_out = data.divided(0.5)
    return program, kept, held_out


class TestFit:
    def test_the_best_epoch_is_kept(self) -> None:
        program, kept, held_out = small()
        optimizer = torch.optim.Adam(program.parameters(), 0.05)
        step = svi_step(program, optimizer, engine="eager")
        validation = Validation(program, (held_out.x,))
        patience = Patience(3)
        with seeded(torch.device("cpu"), 0):
            batches = kept.batches(10)
            records = fit(step, batches, 60, progress=False, validation=validation, stop=patience)
        bounds = [record.metrics["validation_elbo"] for record in records]
        assert len(records) < 60
        assert patience.best == len(records) - 3
        assert max(bounds) == bounds[patience.best - 1] > bounds[-1]
        assert validation()["validation_elbo"] == max(bounds)

    def test_the_best_epoch_is_kept_where_no_rule_stopped_the_fit(self) -> None:
        program, kept, held_out = small()
        upwards = torch.optim.SGD(program.parameters(), 0.01, maximize=True)
        step = svi_step(program, upwards, engine="eager")
        validation = Validation(program, (held_out.x,))
        with seeded(torch.device("cpu"), 0):
            batches = kept.batches(10)
            records = fit(step, batches, 3, progress=False, validation=validation, stop=Patience(9))
        bounds = [record.metrics["validation_elbo"] for record in records]
        assert validation()["validation_elbo"] == max(bounds) > bounds[-1]

    @pytest.mark.parametrize("engine", ["eager", "fx"])
    def test_validation_leaves_the_fit_as_it_is(self, engine: Engine) -> None:
        """Weights and generator are bit for bit those of a fit without it."""
        found = []
        for measured in (False, True):
            program, kept, held_out = small()
            validation = None
            if measured:
                validation = Validation(program, (held_out.x,), (kept.x,))
            optimizer = torch.optim.Adam(program.parameters(), 0.05)
            step = svi_step(program, optimizer, engine=engine)
            with seeded(torch.device("cpu"), 0):
                list(iterate(step, kept.batches(10), 3, validation=validation))
                state = torch.get_rng_state()
            found.append((torch.cat([p.flatten() for p in program.parameters()]), state))
        for one, other in zip(*found, strict=True):
            assert torch.equal(one, other)

    def test_a_rule_without_data_to_stop_on_is_refused(self) -> None:
        program, kept, _ = small()
        step = svi_step(program, torch.optim.Adam(program.parameters()))
        with pytest.raises(ValueError, match=r"got stop= without validation=; hold some out"):
            fit(step, kept.batches(10), 3, progress=False, stop=Patience(2))


class TestValidation:
    def test_the_terms_are_those_of_the_bound(self) -> None:
        """The reconstruction log-likelihood and the KL of PPCA under its posterior are known."""
        program = toy.PPCA(torch.tensor([[1.0], [0.5]]), torch.zeros(2), 0.5)
        x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
        found = Validation(program, (x,), guide=_Posterior(program), particles=200)()
        evidence = float(program.exact_log_evidence(x).double().mean())
        posterior = program.exact_posterior(x)
        mean = posterior.mean
        variance = posterior.variance
        kl = 0.5 * (mean**2 + variance - 1 - variance.log()).sum(-1).double().mean()
        assert found["validation_elbo"] == pytest.approx(evidence, abs=1e-4)
        assert found["validation_kl"] == pytest.approx(float(kl), abs=0.02)
        total = found["validation_log_likelihood"] - found["validation_kl"]
        assert found["validation_elbo"] == pytest.approx(total, abs=1e-9)

    def test_it_agrees_with_the_estimator(self) -> None:
        program, _, held_out = small()
        found = Validation(program, (held_out.x,), particles=400)()
        expected = elbo(program, None, held_out.x, particles=400, seed=1).mean()
        error = 4 * math.sqrt(2) * float(expected.standard_error)
        assert abs(found["validation_elbo"] - float(expected.value)) < error

    def test_the_error_is_that_of_an_average_over_data(self) -> None:
        """It is what averages over other data of the same kind spread by."""
        program, _, _ = small()
        values, errors = [], []
        for seed in range(60):
            own = torch.Generator().manual_seed(seed)
            x = (torch.rand(50, 6, generator=own) < 0.5).float()
            found = Validation(program, (x,), seed=seed)()
            values.append(found["validation_elbo"])
            errors.append(found["validation_elbo_error"])
        spread = float(torch.tensor(values).std())
        assert spread == pytest.approx(sum(errors) / len(errors), rel=4 / math.sqrt(2 * 59))

    def test_labels_are_given_to_those_that_ask(self) -> None:
        x, y = torch.ones(4, 6), torch.arange(4)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            found = Validation(cvae((6,), 2, classes=4), (x, y), (x, y))()
        assert found["validation_elbo"] == found["train_elbo"]

    def test_batches_are_measured_as_tensors_are(self) -> None:
        program = cvae((6,), 2, classes=4)
        split = Split(torch.rand(30, 6).round(), torch.arange(30) % 4)
        batches = split.batches(16, shuffle=False)
        state = torch.get_rng_state()
        found = Validation(program, batches, particles=400)()
        whole = Validation(program, (split.x, split.y), particles=400)()
        for name in ("validation_elbo", "validation_kl"):
            assert found[name] == pytest.approx(whole[name], abs=whole[f"{name}_error"] / 2)
        assert Validation(program, batches, particles=400)() == found
        noisy = Split(torch.full((30, 6), 0.5), split.y, "dynamic").batches(16)
        measure = Validation(program, noisy)
        assert measure() == measure()
        assert torch.equal(torch.get_rng_state(), state)

    def test_one_datum_has_no_error(self) -> None:
        program, _, held_out = small()
        assert math.isnan(Validation(program, (held_out.x[:1],))()["validation_kl_error"])

    @pytest.mark.parametrize("data", [torch.ones(4, 6), (), (torch.ones(0, 6),)])
    def test_what_is_no_data_is_refused(self, data: object) -> None:
        with pytest.raises(ValueError, match=r"data to validate on as \(x, \*context\)"):
            Validation(small()[0], data)  # type: ignore[arg-type]

    def test_data_of_another_shape_are_refused(self) -> None:
        with pytest.raises(ValueError, match="expected"):
            Validation(small()[0], (torch.ones(4, 7),))


class _Posterior:
    """The exact posterior of a toy as a guide."""

    def __init__(self, program: toy.PPCA) -> None:
        self.program = program

    def __call__(self, x: torch.Tensor) -> None:
        import pyro

        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", self.program.exact_posterior(x))
