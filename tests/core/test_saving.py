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
from torch import nn

import ppl_gen
from ppl_gen.app.run.checkpoint import FORMAT
from ppl_gen.guides import automatic
from ppl_gen.inference import elbo, svi_step
from ppl_gen.models import toy, vae
from ppl_gen.sealed import Format, read_sealed, write_sealed


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


def stepped(kind: type[torch.optim.Optimizer], **options: Any) -> tuple[nn.Module, Any]:
    """Weights of two shapes, and an optimiser of them that has made two steps."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 2), nn.PReLU())
    if kind is not torch.optim.LBFGS:  # which takes contiguous weights alone
        net.to(memory_format=torch.channels_last)
    optimizer = kind(net.parameters(), **options)
    x = torch.randn(4, 2, 5, 5)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = net(x).square().mean()
        value.backward()
        return value

    for _ in range(2):
        optimizer.step(loss)
    return net, optimizer


KINDS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "Adam": (torch.optim.Adam, {}),
    "fused Adam": (torch.optim.Adam, {"fused": True}),
    "AMSGrad": (torch.optim.AdamW, {"amsgrad": True}),
    "SGD": (torch.optim.SGD, {"lr": 0.1}),
    "momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "RMSprop": (torch.optim.RMSprop, {"centered": True}),
    "Adagrad": (torch.optim.Adagrad, {}),
    "Adadelta": (torch.optim.Adadelta, {}),
    "Adamax": (torch.optim.Adamax, {}),
    "NAdam": (torch.optim.NAdam, {}),
    "RAdam": (torch.optim.RAdam, {}),
    "Rprop": (torch.optim.Rprop, {}),
    "ASGD": (torch.optim.ASGD, {}),
    "Adafactor": (torch.optim.Adafactor, {}),
    "LBFGS": (torch.optim.LBFGS, {}),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_state_of_every_optimiser_comes_back(name: str, tmp_path: Path) -> None:
    kind, options = KINDS[name]
    net, optimizer = stepped(kind, **options)
    ppl_gen.save(tmp_path / "a.pt", net, optimizer=optimizer)
    held = torch.load(tmp_path / "a.pt", weights_only=True)["states"]["optimizer"]
    other, fresh = stepped(kind, **options)
    fresh.state.clear()
    ppl_gen.load(tmp_path / "a.pt", other, optimizer=fresh)
    assert repr(fresh.state_dict()) == repr(held)


@pytest.mark.parametrize("name", ["fused Adam", "momentum", "RMSprop", "Adagrad", "AMSGrad"])
@pytest.mark.parametrize("shape", [(1,), (3, 2, 2, 1), (99,)])
def test_a_state_of_another_shape_is_refused(
    name: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    """Fused updates would write past its end."""
    kind, options = KINDS[name]
    net, optimizer = stepped(kind, **options)
    state = optimizer.state[next(iter(net.parameters()))]
    for key, value in state.items():
        if value.dim():
            state[key] = torch.zeros(shape)
    ppl_gen.save(tmp_path / "a.pt", net, optimizer=optimizer)
    other, fresh = stepped(kind, **options)
    with pytest.raises(ValueError, match=r"this optimizer, .* parameter 0: \w+ of shape \("):
        ppl_gen.load(tmp_path / "a.pt", other, optimizer=fresh)


@pytest.mark.parametrize(
    ("option", "value"),
    [("lr", "fast"), ("lr", None), ("lr", torch.nan), ("betas", (0.9,)), ("betas", ("a", "b"))],
)
def test_options_of_an_optimiser_are_numbers(option: str, value: Any, tmp_path: Path) -> None:
    net, optimizer = stepped(torch.optim.Adam)
    optimizer.param_groups[0][option] = value
    ppl_gen.save(tmp_path / "a.pt", net, optimizer=optimizer)
    with pytest.raises(ValueError, match=f"expected the weights of this optimizer.*{option}"):
        ppl_gen.load(tmp_path / "a.pt", net, optimizer=stepped(torch.optim.Adam)[1])


def test_a_flipped_bit_and_a_newer_format_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    ppl_gen.save(path, nn.Linear(2, 3))
    flipped = bytearray(path.read_bytes())
    flipped[len(flipped) // 3] ^= 4
    path.write_bytes(flipped)
    with pytest.raises(ValueError, match="is damaged: expected the checksum"):
        ppl_gen.load(path, nn.Linear(2, 3))
    form = Format(family="ppl-gen weights", version=9, oldest=1, sealed_since=2, remedy="none")
    write_sealed(path, form, {})
    with pytest.raises(ValueError, match="newer version of ppl-gen than this one"):
        ppl_gen.load(path, nn.Linear(2, 3))
    with pytest.raises(ValueError, match="expected a 'ppl-gen checkpoint 4' file, got something"):
        read_sealed(path, FORMAT)


def test_a_file_of_the_former_format_is_read(tmp_path: Path) -> None:
    net = nn.Linear(2, 3)
    states = {"program": net.state_dict()}
    former = {"format": "ppl-gen weights 1", "kind": "Linear", "states": states, "notes": {"n": 1}}
    torch.save(former, tmp_path / "a.pt")
    other = nn.Linear(2, 3)
    assert ppl_gen.load(tmp_path / "a.pt", other).notes == {"n": 1}
    assert torch.equal(other.weight, net.weight)


def test_weights_are_of_the_type_of_the_program(tmp_path: Path) -> None:
    ppl_gen.save(tmp_path / "a.pt", nn.Linear(2, 3).double())
    with pytest.raises(ValueError, match=r"weight of torch\.float64, not torch\.float32"):
        ppl_gen.load(tmp_path / "a.pt", nn.Linear(2, 3))


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
