"""Hostile calls of the command, as data: what is typed, what lies there, what is to be said.

Each case is a line of words that is called in a folder of its own. What the words name (`vae-run`,
`data.npz`, `photos`) is put there by `test_hostile.py`, and damaged by `spoil`. Unless a case
`is_fine`, it is to be refused: one line, exit code 2, no file changed.
"""

from __future__ import annotations

__all__ = ["CASES", "OWN_DATA", "OWN_MODELS", "OWN_PARTS", "Case"]

import json
import os
import shlex
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ppl_gen.app.options import Option
from ppl_gen.app.recipes import all_options, models_with

Spoil = Callable[[], object]


def nothing() -> None:
    """Leaves the folder as it is."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One hostile call.

    Attributes:
        name: By which it is selected.
        words: What is typed after `ppl-gen`.
        says: What has to be said, in the error or in what is printed.
        spoil: What is done to the current folder before the call.
        is_fine: Whether the call is to succeed.
    """

    name: str
    words: tuple[str, ...]
    says: str = ""
    spoil: Spoil = nothing
    is_fine: bool = False


FIT = "fit vae --epochs 1 --batch-size 18 --latent-dim 2 --device cpu --out new"


# Parts of a user's own, in my_parts.py, none of which is one.
OWN_PARTS = """
import pyro.distributions as dist
import torch

number = 3

class Broken:
    def __init__(self, dim):
        raise RuntimeError("boom")

class Learned(torch.nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.loc = torch.nn.Parameter(torch.zeros(dim))

    def forward(self):
        return self.loc

def nothing(dim):
    return dim

def tensor(*parameters):
    return torch.zeros(2)

def family_of_tensors(net, dim):
    return net(dim)

def flat(*context):
    return dist.Normal(torch.zeros(2), 1.0)
"""
# Pyro programs of a user's own, in my_model.py, most of which have no posterior to be had.
OWN_MODELS = """
import pyro
import pyro.distributions as dist
import torch

number = 3

def model(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)

def three(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 3):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)

def known(y):
    pyro.sample("y", dist.Normal(0.0, 1.0).expand(y.shape).to_event(1), obs=y)

def endless(y):
    z = pyro.sample("z", dist.ImproperUniform(dist.constraints.real, (), ()))
    pyro.factor("up", z.exp())

class Made(torch.nn.Module):
    def model(self, y):
        return model(y)
"""
# Their data, right and wrong.
OWN_DATA = {
    "y.json": '{"y": [1.0, 2.0, 1.5, 0.5]}',
    "x.json": '{"x": [1.0, 2.0]}',
    "nan.json": '{"y": [1.0, NaN]}',
    "broken.json": '{"y": [1.0,',
    "words.csv": "y\none\ntwo\n",
    "taken.nc": "taken",
}
OWN = "fit vae --epochs 1 --batch-size 18 --latent-dim 2 --data data.npz --device cpu --out new"


def words_of(line: str, *more: str) -> tuple[str, ...]:
    """A line as a shell takes it apart, and words that are taken as they are."""
    return (*shlex.split(line), *more)


def cut(path: str, size: int) -> None:
    """Keeps the first bytes of a file."""
    os.truncate(path, size)


def flip(path: str, place: float) -> None:
    """Turns one bit of a file, at a share of its length."""
    held = bytearray(Path(path).read_bytes())
    held[int(place * len(held))] ^= 4
    Path(path).write_bytes(held)


def put(path: str, content: str | bytes) -> None:
    """Writes a file anew."""
    if isinstance(content, str):
        content = content.encode()
    Path(path).write_bytes(content)


def replaced(path: str, by: Callable[[str], object]) -> None:
    """Puts something of another kind in the place of a file."""
    Path(path).unlink(missing_ok=True)
    by(path)


def loop(path: str) -> None:
    """A link to itself."""
    os.symlink(Path(path).name, path)


def dangling(path: str) -> None:
    """A link to nothing."""
    os.symlink("nowhere", path)


def to_device(path: str) -> None:
    """A link to a device that never ends."""
    os.symlink("/dev/zero", path)


KINDS_OF_FILE: dict[str, Callable[[str], object]] = {
    "fifo": os.mkfifo,
    "device": to_device,
    "loop": loop,
    "dangling": dangling,
    "folder": os.mkdir,
    "empty": lambda path: put(path, b""),
    "text": lambda path: put(path, "no such thing\n" * 9),
    "zeros": lambda path: put(path, bytes(4096)),
}


# Options.

_BAD_INT = ("-1", "1e3", "9" * 15)
_BAD_FLOAT = ("nan", "-1", "1e999")
_BAD_STR = ("", "[/b]\x1b[31m")
# What is no mistake: values that mean something.
_ALLOWED = {
    *[("root", text) for text in _BAD_STR],
    *[(name, "9" * 15) for name in ("seed", "epochs", "anneal", "critic_steps", "keep_every")],
}


def _bad_values(option: Option) -> tuple[str, ...]:
    if option.kind is int:
        return _BAD_INT
    if option.kind is float:
        return _BAD_FLOAT
    return _BAD_STR


def _said(option: Option, value: str) -> str:
    """What an error says of a bad value, whoever finds it."""
    if option.kind is str:
        return "error: "
    if value == "1e3":
        return option.flag
    return "got"


def options_of_fit() -> Iterator[Case]:
    """Each option of each model with values of the wrong type, out of range, or unknown."""
    for option in all_options():
        if option.kind is bool:
            continue
        model = models_with(option.name)[0]
        line = f"fit {model} --device cpu --out new"
        if option.name != "data":
            line += " --data data.npz"
        if option.name != "epochs" and model in models_with("epochs"):
            line += " --epochs 1"
        if option.name != "batch_size" and model in models_with("batch_size"):
            line += " --batch-size 18"
        if option.only_with is not None:
            other, needed, *_ = option.only_with
            line += f" --{other} {needed}"
        if model == "cycle-gan" and option.name != "data_b":
            line += " --data-b data.npz:inverted"
        for value in _bad_values(option):
            if (option.name, value) in _ALLOWED:
                continue
            yield Case(
                name=f"fit {option.flag} {value[:15]}",
                words=words_of(line, option.flag, value),
                says=_said(option, value),
            )


def options_of_others() -> Iterator[Case]:
    """Options of the other commands, likewise, and options that nothing heeds."""
    for line, says in OPTIONS:
        yield Case(name=line, words=words_of(line), says=says)


OPTIONS = (
    ("", ""),
    ("nonsense", "nonsense"),
    ("--nonsense", "nonsense"),
    ("fit", "Missing argument"),
    ("fit nonsense", "nonsense"),
    ("fit VAE", "VAE"),
    ("fit vae gan", "gan"),
    ("fit ''", ""),
    ("fit vae --nonsense 1", "nonsense"),
    ("fit vae --resume --overwrite --out vae-run", "got both"),
    ("fit vae --device nonsense --data data.npz --out new", "nonsense"),
    ("fit vae --device '' --data data.npz --out new", "device"),
    ("fit vae --device cpu --engine cuda-graph --data data.npz --out new", "CUDA device"),
    ("fit vae --precision float16 --data data.npz --out new", "bfloat16"),
    ("fit vae --precision '' --data data.npz --out new", "precision"),
    ("fit gan --precision bfloat16 --data data.npz --out new", "precision"),
    ("fit vae --out vae-run --resume --precision tf32", "precision float32"),
    ("fit vae --device meta --data data.npz --out new", "meta"),
    ("fit vae --device cuda:99 --data data.npz --out new", "cuda:99"),
    ("fit vae --data data.npz --epochs 1 --out new --profile", "at least 100 steps with --profile"),
    ("fit vae --out vae-run --resume --profile", "at least 100 steps with --profile"),
    ("fit pca --data data.npz --latent-dim 2 --out new --profile", "steps with --profile"),
    ("evaluate vae-run --profile", "--profile"),
    ("fit vae --out vae-run --data data.npz", "--resume"),
    ("fit gan --out vae-run --resume", "model vae"),
    ("fit vae --out vae-run --resume --latent-dim 3", "latent_dim 2"),
    ("fit vae --out vae-run --resume --data digits", "data"),
    ("fit vae --out vae-run --resume --seed 5", "seed 0"),
    ("fit vae --out vae-run --resume --epochs 1", "epoch 2"),
    ("fit vae --out vae-run --resume --lr 0.5", "lr"),
    ("fit vae --out vae-run --resume --binarize none", "binarize"),
    ("fit vae --out vae-run --resume --likelihood gaussian", "likelihood"),
    ("fit vae --out nowhere --resume", "nowhere"),
    ("fit vae --out photos", "photos"),
    ("fit vae --out photos --overwrite", "photos"),
    ("fit vae --out photos --resume", "photos"),
    ("fit vae --out data.npz", "data.npz"),
    ("fit vae --out data.npz --overwrite", "data.npz"),
    ("fit vae --out data.npz/new", "data.npz"),
    ("fit vae --loss hinge --data data.npz --out new", "--loss"),
    ("fit gan --likelihood gaussian --data data.npz --out new", "--likelihood"),
    ("fit gan --particles 5 --data data.npz --out new", "--particles"),
    ("fit pca --engine fx --data data.npz --out new", "--engine"),
    ("fit vae --width 8 --data data.npz --out new", "--width"),
    ("fit vae --batch-size 18 --data-b digits --data data.npz --out new", "--data-b"),
    ("fit cgan --paired 3 --data data.npz --out new", "--paired"),
    ("fit gan --loss wasserstein --data data.npz --out new", "--penalty"),
    ("fit cycle-gan --data data.npz --out new", "--data-b"),
    ("fit cycle-gan --data data.npz --data-b digits:coloured --out new", "3"),
    ("fit cycle-gan --binarize static --data data.npz --data-b digits --out new", "--binarize"),
    ("fit vae --batch-size 109 --data data.npz --out new", "108"),
    ("fit gan --batch-size 1 --data data.npz --out new", "--batch-size"),
    ("fit gan --batch-size 107 --data data.npz --out new", "--batch-size"),
    ("fit vae --batch-size 18 --binarize none --likelihood beta --data data.npz --out new", "Beta"),
    (
        "fit vae --batch-size 18 --objective iwae --free-bits 2 --data data.npz --out new",
        "--free-bits",
    ),
    ("fit vae --batch-size 18 --data data.npz:nonsense --out new", "nonsense"),
    ("fit vae --batch-size 18 --data data.npz: --out new", "suffix"),
    ("fit vae --batch-size 18 --data data.npz:8x8 --out new", "8x8"),
    ("fit vae --batch-size 18 --data data.npz:central --out new", "central"),
    ("fit vae --batch-size 18 --data data.npz:coloured:coloured --out new", "coloured"),
    ("fit vae --batch-size 18 --data digitz --out new", "digits"),
    ("fit vae --batch-size 18 --data mnist --root empty --out new", "--download"),
    ("fit vae --data celeba --root empty --out new", "CelebA"),
    ("fit vae --batch-size 18 --data cifar10 --root data.npz --out new", "data.npz"),
    ("fit vae --batch-size 18 --data ring:inverted --out new", "inverted"),
    ("fit conv-vae --batch-size 18 --likelihood gaussian --data ring --out new", "image"),
    ("fit dcgan --data ring --batch-size 50 --out new", "image"),
    (
        "fit vae --batch-size 18 --data data.npz --image-size 4 --likelihood nonsense --out new",
        "nonsense",
    ),
    ("fit cvae --likelihood gaussian --data line --out new", "label"),
    ("fit cgan --condition caption --data ring --out new", "caption"),
    ("fit draw --data data.npz --read 2 --out new", "--write"),
    ("fit draw --data data.npz --read 99 --write 2 --out new", "attention window"),
    ("fit draw --data ring --batch-size 50 --read 2 --write 2 --likelihood gaussian", "images"),
    ("fit text-vae --data data.npz --out new", "text file"),
    ("fit text-vae --data nowhere.txt --out new", "nowhere.txt"),
    ("fit text-vae --data photos --out new", "text file"),
    (f"{OWN} --pseudo-inputs 5", "of --prior vamp, got it without --prior"),
    (f"{OWN} --pseudo-inputs 5 --prior mixture", "of --prior vamp, got it with --prior mixture"),
    (f"{OWN} --pseudo-inputs 0 --prior vamp", "at least 1, got 0"),
    (f"{OWN} --pseudo-inputs 99999999999 --prior vamp", "memory"),
    (f"{OWN} --prior-after 1 --prior vamp", "below --epochs, got 1 and 1"),
    (f"{OWN} --prior-after 3 --prior vamp --epochs 2", "below --epochs, got 3 and 2"),
    (f"{OWN} --prior-after 0 --prior vamp", "at least 1, got 0"),
    (f"{OWN} --prior-after 1.5 --prior vamp", "valid integer"),
    (f"{OWN} --prior-after 1 --epochs 2", "got none, and the usual one of a vae"),
    (f"{OWN} --prior-after 1 --epochs 2 --prior standard-normal", "has no parameters"),
    (f"{OWN} --prior-after 1 --epochs 2 --prior hierarchical", "has no parameters"),
    (f"{OWN} --prior-after 1 --epochs 2 --prior my_parts.py:tensor", "has no parameters"),
    (f"{OWN} --prior-after 1 --epochs 2 --prior my_parts.py:Learned", "to return a distribution"),
    ("fit gan --data data.npz --out new --prior mixture --prior-after 1", "without a guide"),
    (f"{OWN} --prior nowhere.py:Prior", "no file at"),
    (f"{OWN} --prior nowhere:Prior", "no module 'nowhere'"),
    (f"{OWN} --prior photos.py:Prior", "no file at"),
    (f"{OWN} --prior my_parts.py:", "module:object"),
    (f"{OWN} --prior ':x'", "module:object"),
    (f"{OWN} --prior my_parts.py:numbre", "did you mean 'number'"),
    (f"{OWN} --prior my_parts.py:number", "got number"),
    (f"{OWN} --prior my_parts.py:Broken", "RuntimeError: boom"),
    (f"{OWN} --prior my_parts.py:nothing", "got a int"),
    (f"{OWN} --prior my_parts.py:tensor", "expected the prior to return a distribution"),
    (f"{OWN} --prior my_parts.py:flat", ".to_event(1)"),
    (f"{OWN} --likelihood my_parts.py:tensor", "the likelihood to return a distribution"),
    (f"{OWN} --guide my_parts.py:family_of_tensors", "the encoder to return a distribution"),
    (f"{OWN} --guide my_parts.py:Broken", "to be called with (net, dim)"),
    (f"{OWN} --scale 0.1", "--scale is an option of --likelihood gaussian"),
    (f"{OWN} --hidden 200,x", "--hidden"),
    (f"{OWN} --hidden 999999999999", "memory"),
    (f"{OWN} --activation rely", "did you mean 'relu'"),
    (f"{OWN} --optimizer adan", "did you mean 'adam'"),
    (f"{OWN} --weight-decay -1", "--weight-decay"),
    ("fit cvae --condition pair --data ring --out new", "pairs of images side by side"),
    ("fit conv-cgan --condition hlaf --data data.npz --out new", "did you mean 'half'"),
    ("fit conv-cgan --condition edges --data ring --out new", "expected images"),
    ("fit pca --latent-dim 70 --data digits --out new", "--latent-dim from 1 to 64"),
    ("fit pca --epochs 3 --out new", "--epochs is an option of"),
    ("fit denoising-ae --corruption maskin --out new", "did you mean 'masking'"),
    ("fit denoising-ae --noise 1.5 --out new", "--noise from 0 to 1"),
    ("fit ae --codes kernels --out new", "did you mean 'kernel'"),
    ("fit ae --conv --data breast_cancer --out new", "images for --conv"),
    ("fit ae --conv --hidden 20,20 --data data.npz --out new", "one number with --hidden"),
    ("fit ae --patience 3 --data data.npz --out new", "--validation"),
    ("fit stacked-ae --epochs 2 --data data.npz --out new", "--epochs of at least 3"),
    ("fit ppca --latent-dim 64 --data digits --out new", "--latent-dim from 1 to 63"),
    ("fit factor-analysis --latent-dim 65 --data digits --out new", "--latent-dim from 1 to 64"),
    ("fit gaussian-mixture --components 5000 --data digits --out new", "lower --components"),
    ("fit conv-cvae --hidden 20,20 --data data.npz --out new", "one number with --hidden"),
    (
        "fit cgan --condition label --paired 3 --data data.npz --out new",
        "edges, half, coarse, pair",
    ),
    ("fit vae --data data.npz --trust --out new", "--trust belongs to --resume"),
    ("compare eight-schools --trust", "for a run, got a toy posterior"),
    ("parts pirors", "did you mean 'priors'"),
    ("fit ali --likelihood gaussian --data data.npz --out new", "--likelihood"),
    ("evaluate", "RUN"),
    ("evaluate nowhere", "nowhere"),
    ("evaluate data.npz", "data.npz"),
    ("evaluate photos", "photos"),
    ("evaluate ''", ""),
    ("evaluate vae-run --particles 0", "--particles"),
    ("evaluate vae-run --particles -5", "--particles"),
    ("evaluate vae-run --particles 2.5", "--particles"),
    ("evaluate vae-run --limit 0", "--limit"),
    ("evaluate vae-run --limit -1", "--limit"),
    ("evaluate vae-run --ais --chains 0", "--chains"),
    ("evaluate vae-run --ais --chains 999999999999999", "chains"),
    ("evaluate vae-run --ais --temperatures 0", "--temperatures"),
    ("evaluate vae-run --ais --temperatures 999999999999999", "temperatures"),
    ("evaluate vae-run --ais --subset 0", "--subset"),
    ("evaluate vae-run --bdmc --chains -3", "--chains"),
    ("evaluate vae-run --chains 5", "--chains"),
    ("evaluate vae-run --temperatures 5", "--temperatures"),
    ("evaluate vae-run --subset 5", "--subset"),
    ("evaluate vae-run --features pca", "--features"),
    ("evaluate vae-run --permutations 5", "--permutations"),
    ("evaluate vae-run --moments --permutations 3", "19"),
    ("evaluate vae-run --moments --permutations 999999999999999", "permutations"),
    ("evaluate vae-run --moments --features nonsense", "nonsense"),
    ("evaluate vae-run --moments --features inception", "inception"),
    ("evaluate vae-run --epsilon 0", "--epsilon"),
    ("evaluate vae-run --epsilon nan", "--epsilon"),
    ("evaluate vae-run --epsilon inf", "--epsilon"),
    ("evaluate vae-run --epsilon -1", "--epsilon"),
    ("evaluate vae-run --out new", "--out"),
    ("evaluate vae-run --overwrite", "--overwrite"),
    ("evaluate vae-run --seed -1", "seed"),
    ("evaluate vae-run --seed 99999999999999999999999", "seed"),
    ("evaluate vae-run --seed x", "seed"),
    ("evaluate vae-run --device tpu", "tpu"),
    ("evaluate gan-run --ais", "gan"),
    ("evaluate gan-run --bdmc", "gan"),
    ("evaluate gan-run --gaps", "gan"),
    ("evaluate gan-run --collapse", "gan"),
    ("evaluate gan-run --particles 5", "--particles"),
    ("evaluate cycle-gan-run --epsilon 0.1", "cycle-gan"),
    ("evaluate cycle-gan-run --limit 3", "--limit"),
    ("evaluate vae-run vae-run", "vae-run"),
    ("evaluate vae-run ./vae-run/", "vae-run"),
    ("evaluate vae-run gan-run nowhere", "nowhere"),
    ("evaluate vae-run cycle-gan-run", "cycle-gan"),
    ("evaluate vae-run gan-run --ais", "--ais"),
    ("evaluate vae-run gan-run --particles 5", "--particles"),
    ("evaluate vae-run gan-run --out data.npz", "data.npz"),
    ("evaluate vae-run gan-run --epsilon -1", "--epsilon"),
    ("sample", "RUN"),
    ("sample nowhere", "nowhere"),
    ("sample vae-run --count 0", "--count"),
    ("sample vae-run --count -1", "--count"),
    ("sample vae-run --count 1001", "--count"),
    ("sample vae-run --count x", "--count"),
    ("sample vae-run --count 999999999999999 --out a.npy", "--count"),
    ("sample vae-run --label 0", "--label"),
    ("sample vae-run --caption 'a seven'", "--caption"),
    ("sample vae-run --out data.npz", "data.npz"),
    ("sample vae-run --out photos", "photos"),
    ("sample vae-run --out a.txt", "a.txt"),
    ("sample vae-run --out a.jpg", "a.jpg"),
    ("sample vae-run --out a.NPYX", "a.NPYX"),
    ("sample vae-run --out vae-run", "vae-run"),
    ("sample vae-run --out vae-run/config.json --overwrite", "config.json"),
    ("sample vae-run --out data.npz/a.npy", "data.npz"),
    ("sample vae-run --overwrite", "--overwrite"),
    ("sample vae-run --seed -1", "seed"),
    ("sample vae-run --seed 99999999999999999999999", "seed"),
    ("sample vae-run --device nonsense", "nonsense"),
    ("sample cycle-gan-run", "translate"),
    ("sample cgan-run --label 3", "--label"),
    ("sample cgan-run --label -1", "--label"),
    ("sample cgan-run --label ''", "--label"),
    ("sample cgan-run --label ²", "--label"),
    ("sample cgan-run --label 99999999999999999999999", "--label"),
    ("sample cgan-run --label one", "--label"),
    ("sample cgan-run --caption 'a seven'", "--caption"),
    ("sample vae-run gan-run", "gan-run"),
    ("explore", "RUN"),
    ("explore nowhere --walk", "nowhere"),
    ("explore vae-run", "one look or more"),
    ("explore vae-run --interpolate 0", "--interpolate"),
    ("explore vae-run --interpolate 0 99", "got 99"),
    ("explore vae-run --interpolate 0 x", "x"),
    ("explore vae-run --neighbours -1", "--neighbours"),
    ("explore vae-run --overlap 999999999999999999999999 0", "--overlap"),
    ("explore vae-run --attributes thickness slent", "slant"),
    ("explore vae-run --traverse --datum 99", "got 99"),
    ("explore vae-run --anomaly", "--novel"),
    ("explore vae-run --anomaly --novel 7", "the class is empty"),
    ("explore vae-run --anomaly --novel nowhere", "nowhere"),
    ("explore vae-run --walk --novel 1", "--novel"),
    ("explore vae-run --over-epochs", "--keep-every"),
    ("explore vae-run --walk --label 1", "--label"),
    ("explore cgan-run --walk --label 9", "--label"),
    ("explore vae-run --manifold --side 1", "--side"),
    ("explore vae-run --manifold --side 99999999", "memory"),
    ("explore vae-run --manifold --within -1", "--within"),
    ("explore vae-run --manifold --within nan", "--within"),
    ("explore vae-run --latents --limit 0", "--limit"),
    ("explore vae-run --walk --seed -1", "seed"),
    ("explore gan-run --neighbours 0", "no guide"),
    ("explore gan-run --walk --latents", "no guide"),
    ("explore cycle-gan-run --walk", "translate"),
    ("reconstruct vae-run --data nowhere", "nowhere"),
    ("reconstruct vae-run --data line", "shape"),
    ("reconstruct vae-run --overwrite", "--overwrite"),
    ("reconstruct gan-run --data digits", "no guide"),
    ("fit vae --data data.npz:without-7 --out new", "got '7'"),
    ("fit vae --data photos:without-1 --out new", "labels"),
    ("fit vae --data data.npz:without-7 --keep-every 0 --out new", "--keep-every"),
    ("reconstruct", "RUN"),
    ("reconstruct nowhere", "nowhere"),
    ("reconstruct gan-run", "gan"),
    ("reconstruct cycle-gan-run", "cycle-gan"),
    ("reconstruct vae-run --count 0", "--count"),
    ("reconstruct vae-run --count 5000", "--count"),
    ("reconstruct vae-run --label 1", "label"),
    ("reconstruct vae-run --device nonsense", "nonsense"),
    ("translate", "RUN"),
    ("translate vae-run photos --from a --to new", "vae"),
    ("translate cycle-gan-run photos --from c --to new", "--from"),
    ("translate cycle-gan-run photos --from A --to new", "--from"),
    ("translate cycle-gan-run photos --to new", "--from"),
    ("translate cycle-gan-run photos --from a", "--to"),
    ("translate cycle-gan-run nowhere --from a --to new", "nowhere"),
    ("translate cycle-gan-run '' --from a --to new", ""),
    ("translate cycle-gan-run empty --from a --to new", "empty"),
    ("translate cycle-gan-run photos --from a --to photos", "photos"),
    ("translate cycle-gan-run photos --from a --to photos --overwrite", "photos"),
    ("translate cycle-gan-run photos --from a --to photos/new", "photos"),
    ("translate cycle-gan-run photos/0.png --from a --to photos --overwrite", "photos"),
    ("translate cycle-gan-run photos --from a --to data.npz", "data.npz"),
    ("translate cycle-gan-run photos --from a --to vae-run", "vae-run"),
    ("translate cycle-gan-run photos --from a --to new --image-size 0", "--image-size"),
    ("translate cycle-gan-run digits:coloured --from a --to new", "channel"),
    ("translate cycle-gan-run digits:nonsense --from a --to new", "nonsense"),
    ("translate cycle-gan-run ring --from a --to new", ""),
    ("translate cycle-gan-run data.npz/x --from a --to new", "data.npz/x"),
    ("compress", "RUN"),
    ("compress vae-run", "DATA"),
    ("compress vae-run digits", "FILE"),
    ("compress nowhere digits new.bits", "nowhere"),
    ("compress gan-run digits new.bits", "gan"),
    ("compress cgan-run digits new.bits", "cgan"),
    ("compress cycle-gan-run digits new.bits", "cycle-gan"),
    ("compress vae-run ring new.bits", "[0, 1]"),
    ("compress vae-run digits:coloured new.bits", "expected data of shape (1, 8, 8)"),
    ("compress vae-run nonsense new.bits", "nonsense"),
    ("compress vae-run nowhere.npy new.bits", "nowhere.npy"),
    ("compress vae-run data.npz new.bits", "expected"),
    ("compress vae-run digits data.npz", "exists"),
    ("compress vae-run digits photos", "folder photos"),
    ("compress vae-run digits data.npz/new.bits", "data.npz"),
    ("compress vae-run digits new.bits --precision 3", "precision"),
    ("compress vae-run digits new.bits --precision 99", "precision"),
    ("compress vae-run digits new.bits --limit 0", "--limit"),
    ("decompress", "RUN"),
    ("decompress vae-run", "FILE"),
    ("decompress vae-run data.npz", "OUT"),
    ("decompress vae-run nowhere.bits x.npy", "nowhere.bits"),
    ("decompress vae-run data.npz x.npy", "expected compressed data"),
    ("decompress vae-run data.npz x.txt", "x.npy"),
    ("decompress vae-run data.npz data.npz", ".npy"),
    ("decompress gan-run data.npz x.npy", "gan"),
    ("posterior", "FILE.py:MODEL"),
    ("posterior my_model.py --data y.json", "expected FILE.py:MODEL"),
    ("posterior my_model:model:y --data y.json", "module:object"),
    ("posterior nowhere.py:model --data y.json", "nowhere.py"),
    ("posterior my_model.py:nothing --data y.json", "nothing"),
    ("posterior my_model.py:number --data y.json", "number"),
    ("posterior my_model.py:Made --data y.json", "the class Made"),
    ("posterior my_model.py:model", "expected --data with ['y']"),
    ("posterior my_model.py:model --data nowhere.json", "nowhere.json"),
    ("posterior my_model.py:model --data my_model.py", ".json, .npz, .csv or .npy"),
    ("posterior my_model.py:model --data photos", "photos"),
    ("posterior my_model.py:model --data nan.json", "finite numbers in 'y'"),
    ("posterior my_model.py:model --data words.csv", "expected numbers in 'y'"),
    ("posterior my_model.py:model --data x.json", "got ['x']"),
    ("posterior my_model.py:model --data broken.json", "cannot be read"),
    ("posterior my_model.py:three --data y.json", "expected"),
    ("posterior my_model.py:known --data y.json", "continuous latents"),
    ("posterior my_model.py:endless --data y.json", "under an improper prior"),
    ("posterior my_model.py:model --data y.json --ess 0", "ess"),
    ("posterior my_model.py:model --data y.json --chains 1", "chains"),
    ("posterior my_model.py:model --data y.json --chains 999999999999", "chains"),
    ("posterior my_model.py:model --data y.json --engine quick", "quick"),
    ("posterior my_model.py:model --data y.json --seed -1", "seed"),
    ("posterior my_model.py:model --data y.json --out new.txt", ".nc"),
    ("posterior my_model.py:model --data y.json --out taken.nc", "taken.nc exists"),
    ("compare", "NAME"),
    ("compare nonsense", "nonsense"),
    ("compare ''", ""),
    ("compare photos", "photos"),
    ("compare data.npz", "data.npz"),
    ("compare gan-run", "gan"),
    ("compare cycle-gan-run", "cycle-gan"),
    ("compare eight-schools --sampler nonsense --out new", "nonsense"),
    ("compare eight-schools --guide nonsense --out new", "nonsense"),
    ("compare eight-schools --engine nonsense --out new", "nonsense"),
    ("compare eight-schools --chains 0 --out new", "chains"),
    ("compare eight-schools --chains 999999999999 --out new", "chains"),
    ("compare eight-schools --draws 0 --out new", "draws"),
    ("compare eight-schools --draws 1 --out new", "draws"),
    ("compare eight-schools --draws 999999999999 --out new", "draws"),
    ("compare eight-schools --warmup x --out new", "--warmup"),
    ("compare eight-schools --warmup -1 --out new", "warmup"),
    ("compare eight-schools --steps 0 --out new", "steps"),
    ("compare eight-schools --limit 5 --out new", "--limit"),
    ("compare eight-schools --device cpu --out new", "--device"),
    ("compare eight-schools --seed -1 --out new", "seed"),
    ("compare eight-schools --seed 99999999999999999999999 --out new", "seed"),
    ("compare eight-schools --out photos --overwrite --draws 0", "draws"),
    ("compare eight-schools --out data.npz", "data.npz"),
    ("compare vae-run --guide full-covariance", "--guide"),
    ("compare vae-run --steps 50", "--steps"),
    ("compare vae-run --limit 0", "limit"),
    ("compare vae-run --draws 1", "draws"),
    ("compare vae-run --sampler gibbs", "gibbs"),
    ("compare vae-run --out data.npz", "data.npz"),
    ("compare vae-run eight-schools", "eight-schools"),
    ("report", "RUN"),
    ("report vae-run", "--out"),
    ("report nowhere --out new.html", "nowhere"),
    ("report photos --out new.html", "photos"),
    ("report data.npz --out new.html", "data.npz"),
    ("report vae-run photos --out new.html", "photos"),
    ("report vae-run vae-run --out new.html", "expected different runs"),
    ("report vae-run --out new", ".html"),
    ("report vae-run --out new.pdf", "new.html"),
    ("report vae-run --out photos", ".html"),
    ("report vae-run --out data.npz/new.html", "data.npz is a file"),
    ("report vae-run --particles 5 --out new.html", "--particles"),
    ("pack", "RUN"),
    ("pack vae-run", "FILE"),
    ("pack nowhere new.zip", "nowhere"),
    ("pack photos new.zip", "photos"),
    ("pack vae-run photos", "photos"),
    ("pack vae-run data.npz", "data.npz exists"),
    ("pack vae-run data.npz/new.zip", "data.npz is a file"),
    ("unpack nowhere.zip --out new", "nowhere.zip"),
    ("unpack data.npz --out new", "ppl-gen pack"),
    ("unpack my_model.py --out new", "ppl-gen pack"),
    ("unpack photos --out new", "photos"),
    ("unpack data.npz", "--out"),
    ("unpack data.npz --out vae-run", "--overwrite"),
    ("unpack data.npz --out vae-run --overwrite", "ppl-gen pack"),
    ("unpack data.npz --out photos --overwrite", "not the folder of a run"),
    ("unpack vae-run/checkpoint.pt --out new", "ppl-gen pack"),
)


# Places that results are to go to.

HARMLESS = "--data data.npz --epochs 1 --batch-size 18 --latent-dim 2 --device cpu"
WRITERS = (
    f"fit vae {HARMLESS} --out there",
    f"fit vae {HARMLESS} --overwrite --out there",
    "sample vae-run --out there.npy",
    "sample vae-run --overwrite --out there.png",
    "translate cycle-gan-run photos --from a --to there",
    "compress vae-run digits there",
    "report vae-run --out there.html",
    "pack vae-run there",
    "evaluate vae-run gan-run --out there",
    "compare eight-schools --out there",
)


def places() -> Iterator[Case]:
    """Places where nothing can be written, or that would lead elsewhere."""
    for line, kind in product(WRITERS, ("fifo", "device", "loop", "empty")):
        place = line.split()[-1]
        if place == "there.png":  # may be written over
            continue
        yield Case(
            name=f"{kind} at {line[:24]} {place}",
            words=words_of(line),
            says="there",
            spoil=partial(KINDS_OF_FILE[kind], place),
        )
    for kind in ("fifo", "device", "empty"):
        yield Case(
            name=f"decompress {kind}",
            words=words_of("decompress vae-run there x.npy"),
            says="there",
            spoil=partial(KINDS_OF_FILE[kind], "there"),
        )
    for place in ("/proc/new", "/dev/null/new", "n" * 300, "a\0b"):
        yield Case(
            name=f"fit into {place[:12]}",
            words=words_of(f"fit vae {HARMLESS} --out", place),
        )
        yield Case(
            name=f"sample into {place[:12]}",
            words=words_of("sample vae-run --out", f"{place}.npy"),
        )


# Data.


def npy(path: str, x: Any) -> None:
    """An array as a .npy file."""
    np.save(path, x, allow_pickle=True)


def images(n: int = 120, *shape: int) -> Any:
    """Bytes from 0 to 255, (n, 8, 8) or (n, *shape)."""
    return np.random.RandomState(0).randint(0, 256, (n, *(shape or (8, 8)))).astype(np.uint8)


def labelled(y: Any, x: Any = None, name: str = "x.npz") -> None:
    """Images with something for labels."""
    np.savez(name, x=images() if x is None else x, y=y)


def claims(path: str, shape: tuple[int, ...], content: bytes = bytes(64)) -> None:
    """A .npy file whose header claims a shape that its content has not."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    put(path, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content)


def bomb(path: str) -> None:
    """An archive of 100 kB that unpacks to an array of terabytes, as far as its header says."""
    claims("inner.npy", (2**40, 8, 8))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write("inner.npy", "x.npy")
    Path("inner.npy").unlink()


def damaged_archive(path: str) -> None:
    """An archive whose checksums are not those of its content."""
    np.savez(path, x=images())
    flip(path, 0.5)


X = f"{FIT} --data x.npy"
Z = f"{FIT} --data x.npz"
OF_NUMBERS = "fit vae --epochs 1 --batch-size 18 --latent-dim 2 --device cpu --out new --data x.npy"

# A .npy file: what it holds, and what is said of it.
ARRAYS: tuple[tuple[str, Callable[[], Any], str], ...] = (
    ("complex64", lambda: images().astype(np.complex64), "complex"),
    ("complex128", lambda: images().astype(np.complex128), "complex"),
    ("strings", lambda: images().astype(str), "x.npy"),
    ("bytes", lambda: images().astype(bytes), "x.npy"),
    ("objects", lambda: images().astype(object), "x.npy"),
    ("dates", lambda: images().astype("datetime64[s]"), "x.npy"),
    ("spans", lambda: images().astype("timedelta64[s]"), "x.npy"),
    ("structured", lambda: np.zeros(120, [("a", "f4"), ("b", "f4")]), "x.npy"),
    ("raw", lambda: np.zeros(120, "V8"), "x.npy"),
    ("number", lambda: np.float32(3), "shape ()"),
    ("vector", lambda: np.zeros(120), "shape (120,)"),
    ("no data", lambda: np.zeros((0, 8, 8)), "(0, 8, 8)"),
    ("one datum", lambda: images(1), "at least 2"),
    ("no pixels", lambda: np.zeros((120, 0)), "(120, 0)"),
    ("no columns", lambda: images(120, 8, 0), "(120, 8, 0)"),
    ("nan", lambda: np.full((120, 8, 8), np.nan), "finite"),
    ("one nan", lambda: np.where(np.arange(64) == 9, np.nan, np.zeros((120, 64))), "finite"),
    ("inf", lambda: np.full((120, 8, 8), np.inf), "finite"),
    ("-inf", lambda: np.full((120, 64), -np.inf, np.float16), "finite"),
    ("beyond single", lambda: np.full((120, 64), 1e300), "x.npy"),
    ("above one", lambda: images().astype(np.float32), "[0, 1]"),
    ("below zero", lambda: -np.random.RandomState(0).rand(120, 8, 8), "[0, 1]"),
    ("large counts", lambda: np.full((120, 64), 2**25), "x.npy"),
    ("lowest int64", lambda: np.full((120, 64), -(2**63)), "x.npy"),
    ("highest uint64", lambda: np.full((120, 64), 2**64 - 1, np.uint64), "x.npy"),
)

# Likewise, of what is sound.
SOUND: tuple[tuple[str, Callable[[], Any]], ...] = (
    *[
        (kind, lambda kind=kind: (images() > 128).astype(kind))
        for kind in ("?", "u2", ">u8", ">f4", "g")
    ],
    ("wide images", lambda: images(20, 1, 5000)),
    ("of six axes", lambda: images(120, 2, 1, 2, 2, 1)),
)

# What else an x.npy may be.
FILES: tuple[tuple[str, Spoil, str], ...] = (
    *[(kind, partial(make, "x.npy"), "x.npy") for kind, make in KINDS_OF_FILE.items()],
    ("claims terabytes", partial(claims, "x.npy", (2**40, 8, 8)), "x.npy"),
    ("claims more than there is", partial(claims, "x.npy", (2**50, 2**30)), "x.npy"),
    ("claims a negative size", partial(claims, "x.npy", (-1, 8)), "x.npy"),
    ("a header without end", partial(put, "x.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{"), "x.npy"),
    ("a header of another kind", partial(put, "x.npy", b"\x93NUMPY\x09\x00" + bytes(99)), "x.npy"),
    ("only the magic", partial(put, "x.npy", b"\x93NUMPY"), "x.npy"),
    ("a pickle", partial(put, "x.npy", b"\x80\x04cos\nsystem\n(S'touch owned'\ntR."), "x.npy"),
)


IDX = "train-images-idx3-ubyte"
# What else tables, and files in other formats, may hold.
TABLES_AND_THE_LIKE: tuple[tuple[str, str | bytes, str], ...] = (
    ("x.csv", "name,size\n" + "[/b]\x1b[31m,1\n" * 30, "--leave-out name"),
    ("x.csv", "a,b\n" + "1,2\n" * 30, "one alone in 'a', 'b'"),
    ("x.csv", "a\n" + "1e999\n" * 30, "finite numbers"),
    ("x.csv", "a,b\n" + "1,2\n" * 30 + "3\n", "line 32"),
    ("x.csv", '"' + "a" * 200_000, "as a table"),
    (IDX, b"\0\0\x08\x03" + b"\xff" * 12, "memory"),
    (f"{IDX}.gz", b"\x1f\x8b\x08\0" + bytes(30), "cannot read"),
    ("x.mat", b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM\x0e\0\0\0\xff\xff\xff\x7f", "x.mat"),
)


def spoilt_npz(kind: str) -> Spoil:
    """What makes x.npz of one kind."""

    def truncated() -> None:
        labelled(np.arange(120) % 3)
        cut("x.npz", 700)

    makers: dict[str, Spoil] = {
        "bomb": partial(bomb, "x.npz"),
        "damaged": partial(damaged_archive, "x.npz"),
        "truncated": truncated,
        "without x": lambda: np.savez("x.npz", a=images()),
        "without arrays": lambda: np.savez("x.npz"),
        "train alone": lambda: np.savez("x.npz", x_train=images()),
        "of two shapes": lambda: np.savez("x.npz", x_train=images(), x_test=images(9, 4, 4)),
        "of two types": lambda: np.savez("x.npz", x_train=images(), x_test=np.zeros((9, 8, 8))),
        "empty test": lambda: np.savez("x.npz", x_train=images(), x_test=images(0)),
        "objects": lambda: np.savez("x.npz", x=images().astype(object)),
        "labels for train alone": lambda: np.savez(
            "x.npz", x_train=images(), x_test=images(9), y_train=np.arange(120) % 3
        ),
        "text": partial(put, "x.npz", "no archive"),
        "a zip of text": lambda: zipfile.ZipFile("x.npz", "w").writestr("x.npy", "no array"),
        "a zip of folders": lambda: zipfile.ZipFile("x.npz", "w").writestr("x/", ""),
    }
    return makers[kind]


NPZ = (
    "bomb",
    "damaged",
    "truncated",
    "without x",
    "without arrays",
    "train alone",
    "of two shapes",
    "of two types",
    "empty test",
    "objects",
    "labels for train alone",
    "text",
    "a zip of text",
    "a zip of folders",
)

# Labels of 120 images, for a model that takes labels.
LABELS: tuple[tuple[str, Callable[[], Any]], ...] = (
    ("too few", lambda: np.arange(110) % 3),
    ("of two axes", lambda: np.zeros((120, 2), int)),
    ("a number", lambda: np.int64(3)),
    ("fractions", lambda: np.random.rand(120)),
    ("nan", lambda: np.full((120, 2), np.nan)),
    ("strings", lambda: np.array(["a", "b", "c"] * 40)),
    ("objects", lambda: np.array([{}] * 120)),
    ("below −1", lambda: np.arange(120) % 3 - 2),
    ("all missing", lambda: np.full(120, -1)),
    ("as many as data", lambda: np.arange(120) * 100),
    ("highest int64", lambda: np.full(120, 2**63 - 1)),
    ("highest uint64", lambda: np.full(120, 2**64 - 1, np.uint64)),
    ("booleans", lambda: np.arange(120) % 2 == 0),
    ("complex", lambda: np.zeros(120, complex)),
    ("no attributes", lambda: np.zeros((120, 0))),
)


def data_in_arrays() -> Iterator[Case]:
    """Arrays of every kind, and files that are none."""
    for name, make, says in ARRAYS:
        yield Case(
            name=f"array {name}",
            words=words_of(OF_NUMBERS),
            says=says,
            spoil=lambda make=make: npy("x.npy", make()),
        )
    for name, make in SOUND:
        yield Case(
            name=f"array {name} is fine",
            words=words_of(OF_NUMBERS),
            spoil=lambda make=make: npy("x.npy", make()),
            is_fine=True,
        )
    for name, spoil, says in FILES:
        yield Case(
            name=f"file {name}", words=words_of(X), says=says * (name != "device"), spoil=spoil
        )
    for path in ("x.csv", "x.mat", IDX):
        for kind, make in KINDS_OF_FILE.items():
            yield Case(
                name=f"{path} {kind}",
                words=words_of(f"{FIT} --data {path}"),
                says="error: ",
                spoil=partial(make, path),
            )
    for path, content, says in TABLES_AND_THE_LIKE:
        yield Case(
            name=f"{path} of {content[:12]!r}",
            words=words_of(f"{FIT} --data {path}"),
            says=says,
            spoil=partial(put, path, content),
        )
    for kind in NPZ:
        yield Case(name=f"npz {kind}", words=words_of(Z), says="x.npz", spoil=spoilt_npz(kind))
    for name, make in LABELS:
        says = "label"
        if name in ("objects", "strings", "complex"):
            says = "x.npz"
        yield Case(
            name=f"labels {name}",
            words=words_of(Z.replace("vae", "cvae")),
            says=says,
            spoil=lambda make=make: labelled(make()),
        )


# Names.

NAMES = (
    "a b",
    "[red]x[/red]",
    "x[/b]",
    "[link=a]",
    "x\x1b[31mred",
    "x\nline",
    "é☃",
    "\udcff\udcfe",
)


def names() -> Iterator[Case]:
    """Brackets, escapes, line ends and bytes that are no text, in names."""
    for name in NAMES:
        yield Case(
            name=f"data named {name!r}",
            words=words_of(FIT, "--data", f"{name}.npy"),
            spoil=partial(named_array, f"{name}.npy"),
            is_fine=True,
        )
        yield Case(
            name=f"no run named {name!r}",
            words=words_of("evaluate", name),
        )
        yield Case(
            name=f"label named {name!r}",
            words=words_of("sample cgan-run --label", name),
            says="--label",
        )
        yield Case(
            name=f"a run named {name!r}",
            words=words_of("sample", f"{name}/vae-run"),
            spoil=lambda name=name: moved("vae-run", name),
            is_fine=True,
        )
    for upper in ("X.NPY", "X.NPZ", "X.Npz"):
        yield Case(
            name=f"suffix of {upper}",
            words=words_of(FIT, "--data", upper),
            spoil=partial(upper_case, upper),
            is_fine=True,
        )
    yield Case(
        name="classes with brackets",
        words=words_of(f"{FIT} --data odd"),
        spoil=odd_classes,
        is_fine=True,
    )


def named_array(path: str) -> None:
    """Images in a file, whose folder is made."""
    Path(path).parent.mkdir(exist_ok=True)
    npy(path, images())


def moved(what: str, into: str) -> None:
    """Puts something into a new folder."""
    Path(into).mkdir(parents=True)
    Path(what).rename(Path(into) / what)


def upper_case(name: str) -> None:
    """A file of arrays whose name is in capitals."""
    with open(name, "wb") as file:
        if name.upper().endswith("Y"):
            np.save(file, images())
        else:
            np.savez(file, x=images())


def odd_classes() -> None:
    """A folder of images in two classes whose names are markup."""
    for name in ("[bold]", "b\x1b[1m"):
        folder = Path("odd") / name
        folder.mkdir(parents=True)
        for i, image in enumerate(images(20)):
            Image.fromarray(image).save(folder / f"{i}.png")


# Images.


def pretended(path: str, width: int, height: int) -> None:
    """A PNG whose header claims a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = b""
    for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b"")):
        checksum = zlib.crc32(kind + content)
        chunks += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
    put(path, b"\x89PNG\r\n\x1a\n" + chunks)


def of_mode(path: str, mode: str) -> None:
    """An image of one of Pillow's modes."""
    Image.new(mode, (8, 8)).save(path, format="TIFF")


LAST = "photos/29.png"
PHOTOS: tuple[tuple[str, Spoil], ...] = (
    *[
        (kind, partial(replaced, LAST, make))
        for kind, make in KINDS_OF_FILE.items()
        if kind != "folder"
    ],
    ("truncated", partial(cut, LAST, 60)),
    ("flipped", partial(flip, LAST, 0.6)),
    ("of 65000 × 65000", partial(pretended, LAST, 65000, 65000)),
    ("of 2³¹ × 2³¹", partial(pretended, LAST, 2**31 - 1, 2**31 - 1)),
    ("of 0 × 8", partial(pretended, LAST, 0, 8)),
    ("of 13000 × 13000", partial(pretended, LAST, 13000, 13000)),
    ("of another size", lambda: Image.new("L", (9, 8)).save(LAST)),
    ("of 32 bits", partial(replaced, LAST, lambda path: of_mode(path, "I"))),
    ("of 16 bits", partial(replaced, LAST, lambda path: of_mode(path, "I;16"))),
)


def data_in_images() -> Iterator[Case]:
    """Folders of images with one that is none, last in line."""
    for name, spoil in PHOTOS:
        says = "29.png"
        if "bits" in name:
            says = "photos"
        yield Case(
            name=f"fit to an image {name}",
            words=words_of(f"{FIT} --data photos"),
            says=says,
            spoil=spoil,
        )
        yield Case(
            name=f"translate an image {name}",
            words=words_of("translate cycle-gan-run photos --from a --to new"),
            says="29.png",
            spoil=spoil,
        )


# Files of a run.


def edit(name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes the values of a JSON file."""
    path = Path("vae-run") / name
    held = json.loads(path.read_text())
    path.write_text(json.dumps(change(held)))


def with_value(key: str, value: Any) -> Spoil:
    """config.json with another value."""
    return partial(edit, "config.json", lambda held: {**held, key: value})


def without(key: str) -> Spoil:
    """config.json without a value."""
    return partial(edit, "config.json", lambda h: {k: v for k, v in h.items() if k != key})


CONFIG = "vae-run/config.json"
CONFIGS: dict[str, Spoil] = {
    **{
        kind: partial(replaced, CONFIG, make)
        for kind, make in KINDS_OF_FILE.items()
        if kind != "device"
    },
    "cut": partial(cut, CONFIG, 60),
    "a list": partial(put, CONFIG, "[1, 2]"),
    "a number": partial(put, CONFIG, "3"),
    "null": partial(put, CONFIG, "null"),
    "not UTF-8": partial(put, CONFIG, b"\xff\xfe{}"),
    "deep": partial(put, CONFIG, "[" * 100_000),
    "a huge number": partial(put, CONFIG, '{"model": ' + "9" * 5000 + "}"),
    "no model": without("model"),
    "no latent_dim": without("latent_dim"),
    "model unknown": with_value("model", "nonsense"),
    "model a list": with_value("model", ["vae"]),
    "model null": with_value("model", None),
    "another model": with_value("model", "gan"),
    "unknown key": with_value("nonsense", 3),
    "latent_dim text": with_value("latent_dim", "2"),
    "latent_dim null": with_value("latent_dim", None),
    "latent_dim true": with_value("latent_dim", True),
    "latent_dim zero": with_value("latent_dim", 0),
    "latent_dim 2.0": with_value("latent_dim", 2.0),
    "latent_dim other": with_value("latent_dim", 3),
    "latent_dim huge": with_value("latent_dim", 10**15),
    "lr a dict": with_value("lr", {}),
    "lr infinite": partial(edit, "config.json", lambda h: {**h, "lr": float("inf")}),
    "epochs huge": with_value("epochs", 10**40),
    "seed negative": with_value("seed", -1),
    "batch_size zero": with_value("batch_size", 0),
    "data null": with_value("data", None),
    "data missing": with_value("data", "/nowhere/x.npz"),
    "data other": with_value("data", "digits"),
    "data with NUL": with_value("data", "a\0b.npz"),
    "likelihood unknown": with_value("likelihood", "nonsense"),
    "likelihood null": with_value("likelihood", None),
    "binarize unknown": with_value("binarize", "nonsense"),
    "engine unknown": with_value("engine", "nonsense"),
    "engine null": with_value("engine", None),
    "class_names a number": with_value("class_names", 3),
    "class_names of numbers": with_value("class_names", [1, 2, 3]),
    "class_names of others": with_value("class_names", ["a", "b", "c"]),
}
_OF_TRAINING = ("lr infinite", "batch_size zero", "engine unknown", "engine null")
READERS = (
    "evaluate vae-run --particles 5",
    "fit vae --out vae-run --resume --epochs 3",
    "sample vae-run",
    "compare vae-run --limit 2 --draws 20 --warmup 20",
    "reconstruct vae-run",
)


def spoilt_configs() -> Iterator[Case]:
    """config.json damaged, for a command that reads it and for --resume."""
    for k, (name, spoil) in enumerate(CONFIGS.items()):
        line = READERS[k % len(READERS)]
        if name in _OF_TRAINING:
            line = READERS[1]
        yield Case(name=f"config {name}: {line[:13]}", words=words_of(line), spoil=spoil)


CHECKPOINT = "vae-run/checkpoint.pt"


def rewrite(change: Callable[[dict[str, Any]], object]) -> None:
    """Changes what a checkpoint holds, as torch writes it."""
    held = torch.load(CHECKPOINT, weights_only=True)
    change(held)
    torch.save(held, CHECKPOINT)


def _wrong_moments(held: dict[str, Any]) -> None:
    for state in held["optimizers"][0]["state"].values():
        state["exp_avg"] = torch.zeros(1)


def _wrong_strides(held: dict[str, Any]) -> None:
    for state in held["optimizers"][0]["state"].values():
        state["exp_avg_sq"] = torch.zeros(1).expand_as(state["exp_avg_sq"])


CHECKPOINTS: dict[str, Spoil] = {
    **{kind: partial(replaced, CHECKPOINT, make) for kind, make in KINDS_OF_FILE.items()},
    "cut": partial(cut, CHECKPOINT, 5000),
    "cut by one byte": lambda: cut(CHECKPOINT, Path(CHECKPOINT).stat().st_size - 1),
    "longer": lambda: put(CHECKPOINT, Path(CHECKPOINT).read_bytes() + b"x"),
    **{f"flipped at {place}": partial(flip, CHECKPOINT, place) for place in (0.1, 0.35, 0.6, 0.9)},
    "another format": partial(rewrite, lambda h: h.update(format="ppl-gen checkpoint 1")),
    "a newer format": partial(rewrite, lambda h: h.update(format="ppl-gen checkpoint 99")),
    "no epoch": partial(rewrite, lambda h: h.pop("epoch")),
    "epoch text": partial(rewrite, lambda h: h.update(epoch="two")),
    "no weights": partial(rewrite, lambda h: h.update(program={})),
    "weights a list": partial(rewrite, lambda h: h.update(program=[1])),
    "moments of wrong shape": partial(rewrite, _wrong_moments),
    "moments of wrong strides": partial(rewrite, _wrong_strides),
    "no optimisers": partial(rewrite, lambda h: h.update(optimizers=[])),
    "rng short": partial(rewrite, lambda h: h.update(rng=torch.zeros(3, dtype=torch.uint8))),
    "a tensor": lambda: torch.save(torch.zeros(3), CHECKPOINT),
    "code": lambda: torch.save(Path("x"), CHECKPOINT),
}
_TRAINING_ONLY = (
    "moments of wrong shape",
    "moments of wrong strides",
    "no optimisers",
    "rng short",
)


def spoilt_checkpoints() -> Iterator[Case]:
    """checkpoint.pt damaged, for one command that samples and for --resume."""
    for k, (name, spoil) in enumerate(CHECKPOINTS.items()):
        lines = [READERS[1]]
        if name not in _TRAINING_ONLY:
            lines.append(READERS[(0, 2, 4)[k % 3]])
        for line in lines:
            yield Case(
                name=f"checkpoint {name}: {line[:13]}",
                words=words_of(line),
                spoil=spoil,
            )


METRICS = "vae-run/metrics.jsonl"


def spoilt_line(text: str) -> None:
    """Puts a line in the place of the first."""
    lines = Path(METRICS).read_text().splitlines()
    Path(METRICS).write_text("\n".join([text, *lines[1:]]) + "\n")


# Damage that costs at most what is damaged: a run goes on.
MENDED: dict[str, Spoil] = {
    "metrics missing": partial(os.remove, METRICS),
    "metrics empty": partial(put, METRICS, ""),
    "metrics not UTF-8": partial(put, METRICS, b"\xff\xfe\n"),
    "metrics of text": partial(spoilt_line, "nonsense"),
    "metrics without numbers": partial(
        spoilt_line, '{"epoch": 1, "metrics": {"elbo": "x"}, "data": 1, "seconds": 1}'
    ),
    "metrics of text epochs": partial(
        spoilt_line, '{"epoch": "1", "metrics": {"elbo": 1}, "data": 1, "seconds": 1}'
    ),
    "metrics deep": partial(spoilt_line, "[" * 100_000),
}
EVALUATION = "vae-run/evaluation.json"
EVALUATIONS: dict[str, Spoil] = {
    **{
        kind: partial(replaced, EVALUATION, make)
        for kind, make in KINDS_OF_FILE.items()
        if kind != "dangling"
    },
    "a list": partial(put, EVALUATION, "[]"),
    "of numbers": partial(put, EVALUATION, '{"ais": 3}'),
    "of null": partial(put, EVALUATION, '{"log_evidence": null}'),
    "of lists": partial(put, EVALUATION, '{"elbo": [1]}'),
    "cut": partial(put, EVALUATION, '{"elbo": {"val'),
    "not UTF-8": partial(put, EVALUATION, b'{"\xff": {}}'),
    "deep": partial(put, EVALUATION, "[" * 100_000),
    "earlier a number": partial(put, EVALUATION, '{"elbo": {"epoch": 1, "earlier": 3}}'),
    "pictures a number": partial(put, EVALUATION, '{"elbo": {"epoch": 1, "pictures": 3}}'),
    "pictures elsewhere": partial(
        put, EVALUATION, '{"elbo": {"epoch": 1, "pictures": ["../data.npz"]}}'
    ),
}


def spoilt_results() -> Iterator[Case]:
    """metrics.jsonl and evaluation.json damaged."""
    for name, spoil in MENDED.items():
        yield Case(name=f"{name}: resume", words=words_of(READERS[1]), spoil=spoil, is_fine=True)
    for k, (name, spoil) in enumerate(EVALUATIONS.items()):
        yield Case(
            name=f"evaluation {name}",
            words=words_of(READERS[k % 2]),
            says="evaluation.json",
            spoil=spoil,
        )


def reported() -> Iterator[Case]:
    """Results and weights damaged, for commands that show or pack what a folder holds."""
    lines = ("report vae-run --out new.html", "pack vae-run new.zip")
    for k, (name, spoil) in enumerate(EVALUATIONS.items()):
        yield Case(
            name=f"evaluation {name}: {lines[k % 2]}",
            words=words_of(lines[k % 2]),
            says="evaluation.json",
            spoil=spoil,
        )
    for line in lines:
        for name, spoil in (
            ("cut", partial(cut, CHECKPOINT, 999)),
            ("flipped", partial(flip, CHECKPOINT, 0.5)),
            ("looks", partial(put, "vae-run/explore.json", '{"walk": 3}')),
            ("comparison", partial(loop, "vae-run/compare")),
        ):
            yield Case(name=f"{name}: {line}", words=words_of(line), spoil=spoil)
    yield Case(
        name="card a link",
        words=words_of(lines[1]),
        says="README.md is a link",
        spoil=linked("README.md"),
    )
    yield Case(
        name="picture none",
        words=words_of(lines[0]),
        spoil=partial(put, "vae-run/samples.png", "no picture"),
        is_fine=True,
    )


# Folders of runs.


def emptied(*kept: str) -> Spoil:
    """Leaves only some files of a run."""

    def spoil() -> None:
        for path in Path("vae-run").iterdir():
            if path.name not in kept:
                path.unlink()

    return spoil


def foreign() -> None:
    """A folder that holds someone's files."""
    Path("new").mkdir()
    put("new/thesis.tex", "years of work")


def leftover() -> None:
    """A folder in which a run was killed before its configuration was whole."""
    Path("new").mkdir()
    put("new/config.json.part", '{"model": ')


def linked(name: str) -> Spoil:
    """A file of a run that is a link to someone's file."""

    def spoil() -> None:
        put("thesis.tex", "years of work")
        path = Path("vae-run") / name
        path.unlink(missing_ok=True)
        path.symlink_to(Path("thesis.tex").resolve())

    return spoil


ANEW = f"fit vae {HARMLESS} --out vae-run --overwrite"
NEW = f"fit vae {HARMLESS} --out new"
FOLDERS: tuple[tuple[str, str, Spoil, str], ...] = (
    ("foreign", NEW, foreign, "new"),
    ("foreign overwritten", f"{NEW} --overwrite", foreign, "new"),
    ("foreign resumed", f"{NEW} --resume", foreign, "new"),
    ("only metrics", READERS[1], emptied("metrics.jsonl"), "vae-run"),
    ("no checkpoint sampled", READERS[2], emptied("config.json"), "--resume"),
    ("no checkpoint judged", READERS[0], emptied("config.json"), "--resume"),
    ("overwritten by a bad fit", f"{ANEW} --batch-size 999", nothing, "batch"),
    ("overwritten with bad data", f"{ANEW} --data nowhere.npy", nothing, "nowhere"),
    (
        "overwritten by another model",
        "fit gan --batch-size 1 --out vae-run --overwrite",
        nothing,
        "",
    ),
)
FINE_FOLDERS: tuple[tuple[str, str, Spoil], ...] = (
    ("empty", NEW, partial(os.mkdir, "new")),
    ("without config", READERS[2], partial(os.remove, CONFIG)),
    ("without config resumed", READERS[1], partial(os.remove, CONFIG)),
    ("only a checkpoint", READERS[2], emptied("checkpoint.pt")),
    ("killed before its first config", NEW, leftover),
    ("no checkpoint resumed", READERS[1], emptied("config.json")),
    ("overwritten", ANEW, nothing),
    ("picture a link", READERS[2], linked("samples.png")),
    ("metrics a link", READERS[1], linked("metrics.jsonl")),
    ("part a link", READERS[1], linked("checkpoint.pt.part")),
    ("picture part a link", READERS[2], linked("samples.png.part")),
    ("reconstructions a folder's part", READERS[4], linked("reconstructions.png.part")),
)


def folders() -> Iterator[Case]:
    """Folders of runs in odd states."""
    for name, line, spoil, says in FOLDERS:
        yield Case(name=f"folder {name}", words=words_of(line), says=says, spoil=spoil)
    for name, line, spoil in FINE_FOLDERS:
        yield Case(name=f"folder {name} is fine", words=words_of(line), spoil=spoil, is_fine=True)


def _all() -> Iterator[Case]:
    yield from options_of_fit()
    yield from options_of_others()
    yield from places()
    yield from data_in_arrays()
    yield from names()
    yield from data_in_images()
    yield from spoilt_configs()
    yield from spoilt_checkpoints()
    yield from spoilt_results()
    yield from reported()
    yield from folders()


CASES = tuple(_all())
