"""Files of a run that were damaged, or written by somebody else: one line, and nothing changed."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import call, change_checkpoint, snapshot

import ppl_gen
from ppl_gen.app.ingredients.data import former_fingerprint
from ppl_gen.app.ingredients.fitting import Fitting
from ppl_gen.app.recipes import recipe_of
from ppl_gen.app.run import checkpoint, pictures
from ppl_gen.app.run.evaluation import FILE, Evaluation
from ppl_gen.app.run.folder import Run
from ppl_gen.app.run.opened import Fitted
from ppl_gen.sealed import write_sealed

CPU = torch.device("cpu")
SMALL = ("--latent-dim", 2, "--batch-size", 30, "--device", "cpu")


pytestmark = pytest.mark.usefixtures("without_pictures")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE fitted for an epoch to 60 images of 4 × 4 pixels, with something found of it."""
    here = tmp_path_factory.mktemp("damage")
    np.save(here / "x.npy", np.random.RandomState(0).rand(60, 4, 4).astype("f4").round())
    code, said = call(
        "fit",
        "vae",
        "--data",
        here / "x.npy",
        "--out",
        here / "run",
        *SMALL,
        "--epochs",
        1,
        "--engine",
        "eager",
    )
    assert code == 0, said
    (here / "run" / FILE).write_bytes(entry())
    return here / "run"


@pytest.fixture(scope="module")
def opened(good: Path) -> Fitted:
    """The run with its weights."""
    return Fitted.open(good, "cpu")


@pytest.fixture
def run(good: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be damaged."""
    return Path(shutil.copytree(good, tmp_path / "run"))


def prepared(run: Path) -> Fitting:
    """What moves in a run, new."""
    opened = Run.open(run)
    return recipe_of(opened.config).prepare(opened.config, opened.data(), CPU)


@pytest.fixture(scope="module")
def fitting(good: Path) -> Fitting:
    """What moves in the run: nothing that is refused changes it."""
    return prepared(good)


def refused(run: Path, *words: object) -> str:
    """What is said where the command refuses: one line, and no file has changed."""
    before = snapshot(run)
    code, said = call(*words)
    assert code == 2, said
    assert said.startswith("error: ")
    assert snapshot(run) == before
    return said


# The seal.


def test_any_flipped_bit_is_found(run: Path) -> None:
    path = run / "checkpoint.pt"
    whole = path.read_bytes()
    bits = range(8 * len(whole))
    of_the_seal = bits[-8 * 90 :: 9]
    for place in [*random.Random(0).sample(bits, 30), *of_the_seal]:
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged.*put a copy of it back"):
            checkpoint.read(run)
    said = refused(run, "fit", "vae", "--out", run, "--resume")
    assert "expected the checksum" in said or "expected a checksum" in said


@pytest.mark.parametrize("size", [0, 1, 100, 5000, -1])
def test_a_cut_file_is_damaged(run: Path, size: int) -> None:
    path = run / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="is damaged"):
        checkpoint.read(run)


def test_a_newer_file_is_not_called_damaged(run: Path) -> None:
    newer = replace(checkpoint.FORMAT, version=5)
    write_sealed(run / "checkpoint.pt", newer, {"anything": torch.ones(2)})
    said = refused(run, "evaluate", run)
    assert "'ppl-gen checkpoint 5' file, of a newer version of ppl-gen" in said
    assert "update ppl-gen" in said
    assert "damaged" not in said
    assert "--overwrite" not in said


@pytest.mark.parametrize(
    ("place", "raised", "expected"),
    [
        ("ppl_gen.sealed.open", PermissionError(13, "Permission denied"), "(Permission denied)"),
        ("ppl_gen.sealed.open", OSError(5, "Input/output error"), "(Input/output error)"),
        ("torch.load", MemoryError(), "not enough memory to read"),
        ("torch.load", RuntimeError("DefaultCPUAllocator: can't allocate memory"), "enough memory"),
        ("torch.load", RuntimeError("no such operator"), "is as it was written"),
    ],
    ids=repr,
)
def test_a_good_file_that_cannot_be_read_is_not_called_damaged(
    run: Path, place: str, raised: Exception, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise raised

    monkeypatch.setattr(place, fail, raising=False)
    said = refused(run, "evaluate", run)
    assert expected in said
    assert "damaged" not in said
    assert "--overwrite" not in said


def write_former(run: Path) -> None:
    """The checkpoint as former versions wrote it: without a checksum."""
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    state.pop("asked")
    state.pop("stopping")
    data = Run.open(run).data()
    state |= {"format": "ppl-gen checkpoint 2", "data": former_fingerprint(data)}
    torch.save(state, run / "checkpoint.pt")


def test_a_checkpoint_from_before_there_was_patience_goes_on(run: Path, good: Path) -> None:
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    for name in ("format", "stopping"):
        state.pop(name)
    write_sealed(run / "checkpoint.pt", replace(checkpoint.FORMAT, version=3), state)
    assert all(map(torch.equal, state_of(run), state_of(good)))
    assert checkpoint.read(run).stopping is None


def state_of(run: Path) -> list[torch.Tensor]:
    """All that a run goes on with."""
    fitting = prepared(run)
    checkpoint.read(run).resume(fitting, CPU)
    states = [*fitting.program.state_dict().values(), torch.get_rng_state()]
    for state in fitting.optimizers[0].state_dict()["state"].values():
        states += [state["step"], state["exp_avg"], state["exp_avg_sq"]]
    return states


def test_a_former_checkpoint_goes_on_bit_for_bit(run: Path, good: Path) -> None:
    """What it did not record is said, and recorded from then on."""
    write_former(run)
    assert all(map(torch.equal, state_of(run), state_of(good)))
    remark = "kept no fingerprint of labels and test data"
    with pytest.warns(UserWarning, match=remark):
        ppl_gen.load(run)
    code, said = call("fit", "vae", "--out", run, "--resume", "--epochs", 2)
    assert (code, said.count(remark)) == (0, 1)
    assert checkpoint.read(run).data == checkpoint.read(good).data


def test_a_former_checkpoint_of_other_data_is_refused(run: Path, good: Path) -> None:
    write_former(run)
    held = checkpoint.read(run)
    data = Run.open(run).data()
    held.expect_data(data, {})
    with pytest.raises(ValueError, match="other training data"):
        replace(held, data="60 00000000").expect_data(data, {})


# What a checkpoint holds.


def in_state(change: Callable[[torch.Tensor], Any], name: str = "exp_avg") -> Any:
    """What changes an entry of the state of the first parameter."""

    def changed(held: dict[str, Any]) -> None:
        state = held["optimizers"][0]["state"][0]
        state[name] = change(state[name])

    return changed


def in_program(change: Callable[[torch.Tensor], Any]) -> Any:
    """What changes the first weights of the program."""

    def changed(held: dict[str, Any]) -> None:
        name = next(iter(held["program"]))
        held["program"][name] = change(held["program"][name])

    return changed


def with_item(value: Any, *place: Any) -> Any:
    """What puts a value somewhere."""

    def changed(held: dict[str, Any]) -> None:
        for name in place[:-1]:
            held = held[name]
        held[place[-1]] = value

    return changed


def without(*place: Any) -> Any:
    def changed(held: dict[str, Any]) -> None:
        for name in place[:-1]:
            held = held[name]
        del held[place[-1]]

    return changed


STATE = ("optimizers", 0, "state")
DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "one column": (in_state(lambda m: m[..., :1].clone()), "exp_avg of shape"),
    "no numbers": (in_state(lambda m: m.new_empty(0)), "exp_avg of shape (0,)"),
    "one number for all": (
        in_state(lambda m: m[0, 0].expand(m.shape)),
        "exp_avg of strides (0, 0)",
    ),
    "on its side": (in_state(lambda m: m.T.contiguous().T), "exp_avg of strides"),
    "of double precision": (in_state(lambda m: m.double()), "exp_avg of torch.float64"),
    "of whole numbers": (in_state(lambda m: m.long(), "exp_avg_sq"), "exp_avg_sq of torch.int64"),
    "sparse": (in_state(lambda m: m.to_sparse()), "exp_avg no dense tensor"),
    "without memory": (in_state(lambda m: m.to("meta")), "(on the device meta)"),
    "NaN": (in_state(lambda m: m * torch.nan), "exp_avg has NaN"),
    "a word for a tensor": (in_state(lambda m: "m"), "exp_avg no dense tensor"),
    "two steps": (in_state(lambda step: torch.ones(2), "step"), "step of shape (2,)"),
    "an endless step": (in_state(lambda step: step + torch.inf, "step"), "step inf, no finite"),
    "a step of a word": (in_state(lambda step: "1", "step"), "step '1', no finite number"),
    "no second moment": (without(*STATE, 0, "exp_avg_sq"), "expected exp_avg, exp_avg_sq, step"),
    "an entry too many": (with_item(torch.ones(1), *STATE, 0, "more"), "got step, exp_avg"),
    "another parameter": (with_item({}, *STATE, 99), "a parameter 99, which there is not"),
    "a named parameter": (with_item({}, *STATE, "w"), "a parameter 'w', which there is not"),
    "a list of states": (with_item([1], *STATE), "a list in the place of a state"),
    "a number for a state": (with_item(3, *STATE, 0), "a int in the place of a state"),
    "no groups": (with_item([], "optimizers", 0, "param_groups"), "other than 1 groups"),
    "no parameters": (
        with_item([], "optimizers", 0, "param_groups", 0, "params"),
        "a group of other than",
    ),
    "no optimiser": (with_item([], "optimizers"), "0 optimisers, not 1"),
    "a number for an optimiser": (with_item([3], "optimizers"), "a int in the place of a state"),
    "weights of another shape": (in_program(lambda w: w[:1]), "of shape (1,"),
    "weights of another type": (in_program(lambda w: w.half()), "of torch.float16"),
    "complex weights": (in_program(lambda w: w.cfloat()), "of torch.complex64"),
    "sparse weights": (in_program(lambda w: w.to_sparse()), "no dense tensor"),
    "weights without memory": (in_program(lambda w: w.to("meta")), "on the device meta"),
    "weights of NaN": (in_program(lambda w: w * torch.nan), "not finite"),
    "infinite weights": (in_program(lambda w: w + torch.inf), "not finite"),
    "a number for weights": (in_program(lambda w: 3), "no dense tensor"),
    "weights too many": (with_item(torch.ones(1), "program", "w"), "w too many"),
    "a companion too many": (with_item(torch.ones(1), "companions", "w"), "w too many"),
}
ENTRIES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "an epoch of a word": (with_item("1", "epoch"), "(epoch)"),
    "an epoch of a truth": (with_item(True, "epoch"), "(epoch)"),
    "a negative epoch": (with_item(-1, "epoch"), "(epoch)"),
    "no epoch": (without("epoch"), "(epoch)"),
    "a number for data": (with_item(3, "data"), "(data)"),
    "a list for a program": (with_item([], "program"), "(program)"),
    "numbered weights": (with_item({1: torch.ones(1)}, "program"), "(program)"),
    "a list for companions": (with_item([], "companions"), "(companions)"),
    "a dict for optimisers": (with_item({}, "optimizers"), "(optimizers)"),
    "a short generator": (with_item(torch.zeros(9, dtype=torch.uint8), "rng"), "(rng)"),
    "a generator of floats": (with_item(torch.zeros(5056), "rng"), "(rng)"),
    "no generator": (with_item(None, "rng"), "(rng)"),
    "a word for CUDA's": (with_item("a", "rng_cuda"), "(rng_cuda)"),
    "an entry too many": (with_item(1, "more"), "(more)"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_states_are_compared_before_anything_is_loaded(
    name: str, run: Path, fitting: Fitting
) -> None:
    """The checksum is right: somebody wrote such a file, or of another program."""
    change, said = DAMAGE[name]
    held = torch.load(run / "checkpoint.pt", weights_only=True)
    change(held)
    held.pop("format")
    change_checkpoint(run, **held)
    before = copy.deepcopy(fitting.program.state_dict())
    rng = torch.get_rng_state()
    with pytest.raises(ValueError, match="is of another program than config") as raised:
        checkpoint.read(run).resume(fitting, CPU)
    assert said in str(raised.value)
    after = fitting.program.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not fitting.optimizers[0].state
    assert torch.equal(rng, torch.get_rng_state())


@pytest.mark.parametrize("name", ENTRIES)
def test_entries_are_of_their_kind(name: str, run: Path) -> None:
    change, said = ENTRIES[name]
    held = torch.load(run / "checkpoint.pt", weights_only=True)
    change(held)
    held.pop("format")
    write_sealed(run / "checkpoint.pt", checkpoint.FORMAT, held)
    with pytest.raises(ValueError, match="expected a 'ppl-gen checkpoint 4' file") as raised:
        checkpoint.read(run)
    assert said in str(raised.value)


def test_options_of_optimisers_are_those_of_the_configuration(run: Path) -> None:
    held = torch.load(run / "checkpoint.pt", weights_only=True)
    group = held["optimizers"][0]["param_groups"][0]
    group |= {"lr": 1e9, "betas": (2.0, -1.0), "weight_decay": 5.0, "amsgrad": True, "fused": None}
    change_checkpoint(run, optimizers=held["optimizers"])
    fitting = prepared(run)
    own = copy.deepcopy(fitting.optimizers[0].state_dict()["param_groups"])
    checkpoint.read(run).resume(fitting, CPU)
    assert fitting.optimizers[0].state_dict()["param_groups"] == own
    assert len(fitting.optimizers[0].state) == len(list(fitting.program.parameters()))


# config.json.

OUTLINE: dict[str, Any] = {
    "name": "digits",
    "shape": [1, 8, 8],
    "count": 1500,
    "levels": 17,
    "lowest": 0.0,
    "highest": 1.0,
    "classes": None,
}
NESTED = "[" * 20_000 + "]" * 20_000


def changed(**values: Any) -> Callable[[dict[str, Any]], bytes]:
    return lambda config: json.dumps(config | values).encode()


def literally(text: bytes) -> Callable[[dict[str, Any]], bytes]:
    return lambda config: text


CONFIGS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "nothing": literally(b""),
    "null": literally(b"null"),
    "a list": literally(b"[]"),
    "a number": literally(b"3"),
    "a word": literally(b'"vae"'),
    "not UTF-8": literally(b"\xff\xfe{"),
    "cut": literally(b'{"model": "vae"'),
    "nested": literally(NESTED.encode()),
    "nested dicts": literally(b'{"a":' * 5000 + b"1" + b"}" * 5000),
    "a NaN": changed(lr=float("nan")),
    "infinite": changed(lr=float("inf")),
    "beyond doubles": literally(b'{"model": "vae", "lr": 1e999}'),
    "five thousand digits": literally(b'{"model": "vae", "seed": ' + b"9" * 5000 + b"}"),
    "four hundred digits": changed(anneal=10**400),
    "a float of four hundred digits": changed(free_bits=10**400),
    "no model": changed(model=None),
    "a list of models": changed(model=["vae"]),
    "an unknown model": changed(model="vea"),
    "another model": changed(model="gan"),
    "an unknown option": changed(latent=3),
    "classes null": changed(class_names=None),
    "classes a word": changed(class_names="ab"),
    "classes a dict": changed(class_names={"a": 1}),
    "classes of numbers": changed(class_names=[1]),
    "an outline of words": changed(outline="digits"),
    "an outline of nothing": changed(outline={}),
    "an outline of no data": changed(outline=OUTLINE | {"count": 0}),
    "an outline without a shape": changed(outline=OUTLINE | {"shape": []}),
    "an outline of half a level": changed(outline=OUTLINE | {"levels": 2.5}),
    "an outline from a word": changed(outline=OUTLINE | {"lowest": "0"}),
    "no learning rate": changed(lr=None),
    "no epochs": changed(epochs=None),
    "no likelihood": changed(likelihood=None),
    "no latents": changed(latent_dim=None),
    "half a latent": changed(latent_dim=2.5),
    "a true latent": changed(latent_dim=True),
    "listed latents": changed(latent_dim=[2]),
    "a negative seed": changed(seed=-1),
    "no engine": changed(engine=None),
    "an unknown engine": changed(engine="steam"),
    "no objective": changed(objective=None),
    "no data": changed(data=None),
    "listed data": changed(data=["digits"]),
    "a zero byte": changed(data="a\0b"),
    "half a character": changed(data="\ud800"),
    "a nested value": changed(data={"a": {"b": [1]}}),
    "another learning rate": changed(lr=0.5),
    "another seed": changed(seed=5),
    "more epochs": changed(epochs=7),
    "another checksum": changed(checksum="0" * 16),
    "a checksum of a number": changed(checksum=3),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_damaged_configuration_is_one_line(name: str, run: Path) -> None:
    path = run / "config.json"
    path.write_bytes(CONFIGS[name](json.loads(path.read_text())))
    for words in (("evaluate", run), ("fit", "vae", "--out", run, "--resume")):
        assert "config.json is not the configuration of a run (" in refused(run, *words)


def test_a_configuration_that_was_changed_is_kept_if_its_checksum_is_deleted(run: Path) -> None:
    path = run / "config.json"
    config = json.loads(path.read_text())
    config["lr"] = 0.5
    path.write_text(json.dumps(config))
    assert "to keep the change, delete the line of its checksum" in refused(run, "evaluate", run)
    del config["checksum"]
    path.write_text(json.dumps(config))
    fitting = prepared(run)
    checkpoint.read(run).resume(fitting, CPU)
    assert fitting.optimizers[0].param_groups[0]["lr"] == 0.5


def test_a_configuration_that_is_missing_comes_back_from_the_checkpoint(run: Path) -> None:
    before = (run / "config.json").read_bytes()
    (run / "config.json").unlink()
    assert Fitted.open(run, "cpu").epoch == 1
    assert not (run / "config.json").exists()
    code, said = call("fit", "vae", "--out", run, "--resume")
    assert (code, "config.json was missing; it is written anew" in said) == (0, True)
    assert (run / "config.json").read_bytes() == before


def test_a_configuration_that_a_former_checkpoint_does_not_hold(run: Path) -> None:
    write_former(run)
    (run / "config.json").unlink()
    assert "does not remember it; put a copy back" in refused(run, "evaluate", run)


# metrics.jsonl.


def line(**values: Any) -> bytes:
    record = {"epoch": 2, "metrics": {"elbo": -3.0}, "data": 54, "seconds": 0.5}
    return json.dumps(record | values).encode()


BROKEN_LINES = {
    "empty": b"",
    "cut": line()[:20],
    "not UTF-8": b"\xff\xfe",
    "nested": NESTED.encode(),
    "null": b"null",
    "a list": b"[]",
    "no epoch": line(epoch=None),
    "an epoch of a word": line(epoch="2"),
    "a list of epochs": line(epoch=[2]),
    "a NaN": line(epoch=float("nan")),
    "no metrics": line(metrics=None),
    "a list of metrics": line(metrics=[1]),
    "a metric of a word": line(metrics={"elbo": "x"}),
    "a list for a metric": line(metrics={"elbo": [1]}),
    "a huge metric": line(metrics={"elbo": 10**400}),
    "an infinite metric": line(metrics={"elbo": float("inf")}),
    "seconds of a word": line(seconds="a"),
    "no data": line(data=None),
    "an entry too many": line(more=1),
}


@pytest.mark.parametrize("name", BROKEN_LINES)
def test_a_broken_line_of_metrics_costs_that_line_alone(
    name: str, tmp_path: Path, good: Path
) -> None:
    opened = Run(tmp_path, Run.open(good).config)
    lines = [line(epoch=1), BROKEN_LINES[name], line(epoch=3), line(epoch=4)]
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    assert [record.epoch for record in opened.records()] == [1, 3, 4]
    assert opened.rewind(3) == [2]
    assert [record.epoch for record in opened.records()] == [1, 3]


def test_a_number_of_metrics_that_has_changed_costs_its_line(run: Path) -> None:
    path = run / "metrics.jsonl"
    text = path.read_text()
    digit = text.index(".") + 1
    for other in {"1", "2"} - {text[digit]}:
        path.write_text(text[:digit] + other + text[digit + 1 :])
        assert Run.open(run).records() == []


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\n",
        line(epoch=1, metrics={}),
        line(epoch=1, metrics={"x": 1}),
        line(epoch=1, metrics={"elbo": None}),
    ],
    ids=["empty", "not UTF-8", "no metrics", "others", "null"],
)
def test_metrics_without_a_curve_are_not_drawn(text: bytes, opened: Fitted, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(text)
    other = replace(opened, run=Run(tmp_path, opened.config))
    assert pictures.training(other) == []


def test_lost_metrics_are_said_when_a_run_goes_on(run: Path) -> None:
    (run / "metrics.jsonl").write_bytes(b"\xff\n")
    code, said = call("fit", "vae", "--out", run, "--resume")
    assert (code, "metrics.jsonl has lost 1 of 1 epochs (from epoch 1)" in said) == (0, True)
    assert (run / "metrics.jsonl").read_bytes() == b""


# evaluation.json.


def entry(**values: Any) -> bytes:
    held = {"value": 1.0, "epoch": 1, "weights": "a", "current": True, "options": {}}
    return json.dumps({"ais": held | values}).encode()


EVALUATIONS = {
    "nothing": b"",
    "null": b"null",
    "a number": b"3",
    "not UTF-8": b"\xff",
    "nested": NESTED.encode(),
    "an entry of a number": b'{"ais": 3}',
    "an entry of null": b'{"ais": null}',
    "an entry of a list": b'{"ais": []}',
    "no epoch": entry(epoch=None),
    "a list of epochs": entry(epoch=[]),
    "a NaN": entry(value=float("nan")),
    "weights of a list": entry(weights=[]),
    "earlier a number": entry(earlier=3),
    "earlier numbers": entry(earlier=[3]),
    "earlier a dict": entry(earlier={"a": 1}),
    "earlier ones of earlier ones": entry(earlier=[{"epoch": 1, "earlier": [{"epoch": 1}]}]),
    "pictures a number": entry(pictures=3),
    "pictures of numbers": entry(pictures=[3]),
    "a picture elsewhere": entry(pictures=["../../holiday.png"]),
    "a picture at the root": entry(pictures=["/holiday.png"]),
}


@pytest.mark.parametrize("name", EVALUATIONS)
def test_a_damaged_evaluation_is_one_line(name: str, run: Path) -> None:
    (run / FILE).write_bytes(EVALUATIONS[name])
    with pytest.raises(ValueError, match=r"evaluation\.json is damaged.*move it away"):
        Evaluation.read(run)


def test_a_damaged_evaluation_stops_a_run_before_it_goes_on(run: Path) -> None:
    (run / FILE).write_bytes(b'{"ais": 3}')
    words = ("fit", "vae", "--out", run, "--resume", "--epochs", 3)
    assert "(ais has no epoch); move it away" in refused(run, *words)


@pytest.mark.parametrize("name", ["config.json", "checkpoint.pt", "metrics.jsonl", FILE])
def test_a_folder_in_the_place_of_a_file_is_one_line(name: str, run: Path) -> None:
    (run / name).unlink()
    (run / name).mkdir()
    words = ("fit", "vae", "--out", run, "--resume", "--epochs", 3)
    assert f"expected a regular file, got a folder at {run / name}; move it away" in refused(
        run, *words
    )
