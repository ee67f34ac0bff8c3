"""Seeds, the programs that laws are held against, and data that may be absent."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyro
import pytest
import torch
from torch import Tensor

from ppl_gen import data


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test begins from the same random state and an empty param store."""
    torch.manual_seed(0)
    np.random.seed(0)
    pyro.clear_param_store()
    pyro.enable_validation(True)


@pytest.fixture
def binary() -> Tensor:
    """Twelve thresholded digits."""
    return data.load("digits", binarize="threshold").train.x[:12]


@pytest.fixture(scope="session")
def mnist() -> Callable[..., data.Dataset]:
    """Loads MNIST, or skips where it is absent."""

    def load(**options: str) -> data.Dataset:
        try:
            return data.load("mnist", **options)
        except ValueError as error:
            if "cannot read MNIST" not in str(error):
                raise
            pytest.skip("MNIST is not at hand: set PPL_GEN_DATA to the folder that holds MNIST/raw")

    return load


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest test begins first; CUDA tests are skipped, saying so, without a device."""
    items.sort(key=lambda item: item.name != "test_the_python_of_a_page_runs[README.md]")
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device here"))
