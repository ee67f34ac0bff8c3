"""`ppl-gen fit cycle-gan --data FOLDER`, which holds trainA and trainB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command import call
from PIL import Image

from ppl_gen import load

SMALL = ("--batch-size", 2, "--epochs", 1, "--device", "cpu", "--width", 4)


pytestmark = pytest.mark.usefixtures("without_pictures")


def write(folder: Path, *names: str) -> Path:
    for place, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for i in range(4):
            grey = np.random.RandomState(10 * place + i).randint(0, 255, (8, 8)).astype(np.uint8)
            Image.fromarray(grey).save(folder / name / f"{i}.png")
    return folder


def test_one_folder_is_fitted_opened_and_translated(tmp_path: Path) -> None:
    both = write(tmp_path / "both", "trainA", "trainB", "testA", "testB")
    run = tmp_path / "run"
    code, said = call("fit", "cycle-gan", "--data", both, *SMALL, "--out", run)
    assert code == 0, said
    assert "both/trainA: 4 to train, 4 to test" in said
    assert "both/trainB: 4 to train, 4 to test" in said
    assert load(run).data.b.name == "both/trainB"
    for side, name in (("a", "testA"), ("b", "testB")):
        words = ("translate", run, both / name, "--from", side, "--to", tmp_path / side)
        code, said = call(*words)
        assert (code, "4 images" in said) == (0, True), said
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(both / "testB" / "0.png")
    with pytest.raises(ValueError, match="other test data of domain b"):
        load(run)


@pytest.mark.parametrize(
    ("names", "words", "said"),
    [
        (("trainA",), (), "expected folders trainA, trainB in"),
        (("trainA", "trainB"), ("--data-b", "digits"), "--data alone, for a cycle-gan"),
        (("other",), (), "name the other with --data-b, or a folder that holds trainA"),
    ],
)
def test_what_is_no_pair_of_domains_is_refused_before_work(
    names: tuple[str, ...], words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "both", *names)
    asked = ("fit", "cycle-gan", "--data", folder, *words, *SMALL, "--out", tmp_path / "run")
    code, printed = call(*asked)
    assert (code, said in printed) == (2, True), printed
    assert not (tmp_path / "run").exists()


def test_other_models_do_not_take_them_for_classes(tmp_path: Path) -> None:
    folder = write(tmp_path / "both", "trainA", "trainB", "testA", "testB")
    words = ("fit", "cvae", "--data", folder, *SMALL[:6], "--out", tmp_path / "run")
    code, said = call(*words)
    assert (code, "got those of two domains" in said) == (2, True), said
