"""Every program of the suite by every engine: the same loss, the same gradients."""

from __future__ import annotations

import copy
import shutil
import warnings
from typing import Any

import pytest
import torch
from programs import PROGRAMS
from torch import Tensor, nn

from ppl_gen.inference import svi_step
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.fitting.objectives import Enumerated

OBJECTIVES = {"ss-vae": Enumerated, "ss-vae, some labels": Enumerated}
# Programs whose fit is one call have buffers, and no parameters.
FITTED_BY_A_CALL = ("gaussian", "gaussian mixture", "factor analysis")
TRAINED = [name for name in PROGRAMS if not name.startswith("toy") and name not in FITTED_BY_A_CALL]

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="inductor needs a C++ compiler"
)


def stepped(name: str, engine: Engine) -> tuple[nn.Module, Tensor]:
    """A program after two steps, and the loss of the second."""
    torch.manual_seed(0)
    # A copy: rows of the table share likelihoods, whose scales a step changes.
    program, x, context = copy.deepcopy(PROGRAMS[name]())
    elbo: Any = None
    if name in OBJECTIVES:
        elbo = OBJECTIVES[name]()
    guided: Any = program
    parameters = nn.ModuleList([guided]).parameters()
    step = svi_step(guided, torch.optim.SGD(parameters, 1e-4), elbo, engine=engine)
    torch.manual_seed(1)
    step(x, *context)
    return program, step(x, *context)["elbo"]


def agree(name: str, engine: Engine, rounding: float) -> None:
    """Raises where an engine gives other numbers than the program itself, or way to a lower one.

    Args:
        name: Of the program.
        engine: The engine.
        rounding: The largest difference in a gradient, relative to the largest entry.
    """
    expected, said = stepped(name, "eager")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*(cannot be|has changed since)")
        program, got = stepped(name, engine)
    torch.testing.assert_close(got, said, rtol=1e-5, atol=1e-5)
    for p, q in zip(program.parameters(), expected.parameters(), strict=True):
        if q.grad is None:
            assert p.grad is None
            continue
        scale = float(q.grad.abs().max())
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=rounding * scale + 1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_a_program_is_traced(name: str) -> None:
    agree(name, "fx", 1e-6)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("name", TRAINED)
def test_a_program_is_compiled(name: str) -> None:
    agree(name, "inductor", 1e-4)
