"""A program fitted in one call: the same as by step and loop, and whether it has settled."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from ppl_gen.guides import DiagonalGaussian
from ppl_gen.inference import (
    IWAE,
    Patience,
    ProgramFit,
    Record,
    Validation,
    fit,
    fit_program,
    svi_step,
)
from ppl_gen.models import toy, vae


def test_it_is_step_and_loop_to_the_last_bit(binary: Tensor) -> None:
    torch.manual_seed(0)
    program = vae((1, 8, 8), 2, hidden=(8,))
    other = copy.deepcopy(program)
    batches = [(binary[:8],), (binary[8:],)]
    fitted = fit_program(program, batches, epochs=3, rate=0.01, beta=0.5, seed=1)
    step = svi_step(other, torch.optim.Adam(other.parameters(), 0.01, fused=True), beta=0.5)
    torch.manual_seed(1)
    records = fit(step, batches, 3, progress=False)
    assert [record.metrics for record in fitted.records] == [record.metrics for record in records]
    for one, two in zip(program.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
    assert fitted.metric == "objective"
    assert len(fitted.to_pandas()) == 3


def test_a_guide_of_its_own_is_fitted_too_and_an_objective_taken(binary: Tensor) -> None:
    torch.manual_seed(0)
    program = vae((1, 8, 8), 2, hidden=(8,))
    encoder = nn.Sequential(nn.Flatten(-3), nn.Linear(64, 4))
    guide = vae((1, 8, 8), 2, hidden=(8,))
    guide.encoder = DiagonalGaussian(encoder)
    before = copy.deepcopy(encoder.state_dict())
    fitted = fit_program(
        program, [(binary,)], IWAE(num_particles=2), epochs=2, guide=guide.guide, seed=0
    )
    assert fitted.metric == "iwae"
    for name, value in encoder.state_dict().items():
        assert not torch.equal(value, before[name])


def test_a_rule_stops_it(binary: Tensor) -> None:
    torch.manual_seed(0)
    program = vae((1, 8, 8), 2, hidden=(8,))
    validation = Validation(program, (binary[:8],))
    fitted = fit_program(
        program,
        [(binary,)],
        epochs=50,
        validation=validation,
        stop=Patience(1, gain=1e3),
        seed=0,
    )
    assert len(fitted.records) == 2
    assert fitted.records[-1].stopped


def test_it_says_whether_the_objective_has_settled() -> None:
    def fitted(values: Tensor) -> ProgramFit:
        records = []
        for epoch, value in enumerate(values.tolist(), start=1):
            records.append(Record(epoch, {"elbo": value}, 10, 0.1))
        return ProgramFit(records)

    noise = 0.1 * torch.randn(100, generator=torch.Generator().manual_seed(0))
    settled = fitted(-20 + noise)
    assert settled.verdict.tags == ("settled",)
    assert "epochs" in settled.verdict
    assert float(settled.final) == pytest.approx(float((-20 + noise)[-10:].mean()), abs=1e-6)
    assert fitted(torch.linspace(-30, -20, 100) + noise).verdict.tags == ("rising",)
    assert fitted(noise[:19]).verdict.tags == ()


def test_what_has_nothing_to_fit_is_refused(binary: Tensor) -> None:
    schools = toy.EightSchools()
    with pytest.raises(ValueError, match="fit_guide"):
        fit_program(schools.model, [schools.data], epochs=1, guide=lambda *data: None)
    program = vae((1, 8, 8), 2, hidden=(8,))
    with pytest.raises(ValueError, match="rate above 0"):
        fit_program(program, [(binary,)], epochs=1, rate=-1.0)
    with pytest.raises(ValueError, match="epochs"):
        fit_program(program, [(binary,)], epochs=0)
