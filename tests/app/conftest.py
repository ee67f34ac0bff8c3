"""What tests of the command share."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer

from ppl_gen.app.run import pictures


@pytest.fixture(scope="session", autouse=True)
def _built_once() -> Iterator[None]:
    """All calls share one command; the runner would read every option anew for each of them."""
    with pytest.MonkeyPatch.context() as patched:
        build = functools.cache(typer.main.get_command)
        patched.setattr("typer.testing._get_command", build, raising=False)
        yield


@pytest.fixture(scope="module")
def without_pictures() -> Iterator[None]:
    """A run that ends draws no pictures, which take longer than all else in some files."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pictures, "draw_all", lambda fitted, console: None)
        yield


@pytest.fixture(scope="module")
def grey_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty grey images in a file, three batches of which are an epoch."""
    path = tmp_path_factory.mktemp("images") / "grey.npy"
    np.save(path, np.random.RandomState(0).rand(60, 4, 4).astype("f4"))
    return path
