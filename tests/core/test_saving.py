"""`ppl_gen.save` and `ppl_gen.load`: weights in files that can run no code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from command import QUICK, call
from pyro.infer.autoguide import AutoNormal

import ppl_gen
from ppl_gen.guides import automatic
from ppl_gen.inference import elbo, svi_step
from ppl_gen.models import toy, vae


def program() -> Any:
    torch.manual_seed(0)
    return vae((4,), 2)


def test_the_package_stays_light() -> None:
    code = "import sys, ppl_gen; ppl_gen.__version__; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


class TestFile:
    def test_program_guide_optimiser_and_notes_come_back(self, tmp_path: Path) -> None:
        """A step after loading is the step that the saved one would have taken, bit for bit."""
        x = torch.eye(4)
        states = []
        one, other = program(), vae((4,), 2)
        optimizers = [torch.optim.Adam(each.parameters(), 0.01) for each in (one, other)]
        svi_step(one, optimizers[0], engine="eager")(x)
        ppl_gen.save(tmp_path / "a.pt", one, optimizer=optimizers[0], epoch=3, seen=[1, "two"])
        held = ppl_gen.load(tmp_path / "a.pt", other, optimizer=optimizers[1])
        assert held.program is other
        assert held.notes == {"epoch": 3, "seen": [1, "two"]}
        for each, optimizer in zip((one, other), optimizers, strict=True):
            torch.manual_seed(1)
            svi_step(each, optimizer, engine="eager")(x)
            states.append(torch.cat([p.detach().flatten() for p in each.parameters()]))
        assert torch.equal(*states)
        assert torch.load(tmp_path / "a.pt", weights_only=True)["kind"] == "ppl_gen.models.vae.VAE"

    def test_an_automatic_guide_is_kept_too(self, tmp_path: Path) -> None:
        model = toy.PPCA(torch.tensor([[1.0], [0.5]]), torch.zeros(2), 0.5)
        x = torch.tensor([[1.0, 0.2], [-0.3, 0.4]])
        guides = [automatic(AutoNormal, model.model, x, seed=seed) for seed in (0, 1)]
        with torch.no_grad():
            for parameter in guides[0].parameters():
                parameter += 0.3
        ppl_gen.save(tmp_path / "a.pt", model, guide=guides[0])
        ppl_gen.load(tmp_path / "a.pt", model, guide=guides[1])
        bounds = [elbo(model, guide, x, particles=5, seed=0).value for guide in guides]
        assert torch.equal(*bounds)

    def test_weights_of_another_program_change_nothing(self, tmp_path: Path) -> None:
        ppl_gen.save(tmp_path / "a.pt", program())
        other = vae((4,), 3)
        before = [p.clone() for p in other.parameters()]
        with pytest.raises(ValueError, match=r"expected the weights of this program, got those of"):
            ppl_gen.load(tmp_path / "a.pt", other)
        assert all(map(torch.equal, before, other.parameters()))

    def test_a_pickle_is_not_opened(self, tmp_path: Path) -> None:
        torch.save(program(), tmp_path / "a.pt")
        with pytest.raises(ValueError, match=r"or not a ppl-gen weights file .*no code"):
            ppl_gen.load(tmp_path / "a.pt", program())

    def test_bad_input_is_said(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pt"
        with pytest.raises(ValueError, match=r"expected a program that is an nn\.Module, got func"):
            ppl_gen.save(path, program)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"in 'when', got a object, which only a pickle"):
            ppl_gen.save(path, program(), when=object())
        assert not path.exists()
        with pytest.raises(ValueError, match="no run and no file of weights at"):
            ppl_gen.load(path)
        ppl_gen.save(path, program())
        with pytest.raises(ValueError, match="build it as it was when it was saved, and pass it"):
            ppl_gen.load(path)
        with pytest.raises(ValueError, match=r"expected a state named 'guide' in .*, got program;"):
            ppl_gen.load(path, program(), guide=program())


def test_a_run_comes_back_with_program_data_and_configuration(tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, said = call("fit", "vae", "--out", run, *QUICK)
    assert code == 0, said
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fitted = ppl_gen.load(run, device="cpu")
    assert torch.equal(torch.rand(3), expected)  # the generator is left as it was
    saved = torch.load(run / "checkpoint.pt", weights_only=True)["program"]
    assert all(torch.equal(saved[name], w) for name, w in fitted.program.state_dict().items())
    assert (fitted.data.shape, fitted.config.latent_dim, fitted.epoch) == ((1, 8, 8), 2, 2)
    assert repr(fitted) == f"vae on digits, fitted for 2 epochs, on cpu: {run}"
    with pytest.raises(ValueError, match="builds its own program"):
        ppl_gen.load(run, fitted.program)
