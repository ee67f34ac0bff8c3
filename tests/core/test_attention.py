"""Recurrent cells and windows of attention: against torch's own, and against pictures by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ppl_gen.nn import LSTM, LSTMState, Window


def test_a_step_is_that_of_torch() -> None:
    own = LSTM(3, 5)
    torchs = nn.LSTMCell(3, 5)
    with torch.no_grad():
        torchs.weight_ih.copy_(own.of_input.weight)
        torchs.weight_hh.copy_(own.of_hidden.weight)
        torchs.bias_ih.copy_(own.of_input.bias)
        torchs.bias_hh.zero_()
    x, h, c = torch.randn(4, 3), torch.randn(4, 5), torch.randn(4, 5)
    hidden, cell = own(x, LSTMState(h, c))
    expected_hidden, expected_cell = torchs(x, (h, c))
    torch.testing.assert_close(hidden, expected_hidden)
    torch.testing.assert_close(cell, expected_cell)


def test_axes_are_broadcast() -> None:
    own = LSTM(3, 5)
    x = torch.randn(2, 4, 3)
    together = own(x, own(torch.zeros(3), own.start))
    alone = own(x[1, 2], own(torch.zeros(3), own.start))
    torch.testing.assert_close(together.hidden[1, 2], alone.hidden)


def _placed(window: Window, *numbers: float) -> Window:
    """The window where its network says these five numbers whatever it is told."""
    with torch.no_grad():
        window.net.weight.zero_()
        window.net.bias.copy_(torch.tensor(numbers))
    return window


def test_a_sharp_window_reads_its_pixels() -> None:
    """Of 5 × 9 pixels, the 3 × 3 around the middle of row 2 and column 6, doubled."""
    across, down = 2 * 6 / 10 - 1, 2 * 2 / 6 - 1
    stride = torch.tensor(2 / 8).log().item()  # 1 = δ̃ (9 − 1)/(3 − 1)
    window = _placed(Window(3, 4, (1, 5, 9)), across, down, -9.0, stride, torch.tensor(2.0).log())
    images = torch.rand(6, 1, 5, 9)
    read = window.read(images, torch.randn(6, 4))
    torch.testing.assert_close(read, 2 * images[:, :, 0:3, 4:7])


def test_what_is_written_is_read_again() -> None:
    stride = torch.tensor(2 / 8).log().item()
    window = _placed(Window(3, 4, (2, 9, 9)), 0.0, 0.0, -9.0, stride, 0.5)
    patch = torch.rand(6, 2, 3, 3)
    hidden = torch.randn(6, 4)
    image = window.write(patch, hidden)
    torch.testing.assert_close(window.read(image, hidden), patch)
    torch.testing.assert_close(image.sum(), patch.sum() / torch.tensor(0.5).exp())


def test_a_window_far_outside_is_finite() -> None:
    window = _placed(Window(2, 4, (1, 8, 8)), 50.0, -50.0, -6.0, 0.0, 0.0)
    assert bool(window.read(torch.rand(3, 1, 8, 8), torch.zeros(3, 4)).isfinite().all())


@pytest.mark.parametrize(
    ("side", "shape", "said"),
    [
        (9, (1, 8, 12), "at most 8 pixels a side, as the image of 8 × 12, got 9; take a smaller"),
        (0, (1, 8, 8), "expected an attention window of at least 1, got 0"),
        (2, (8,), r"expected images \(C, H, W\) to attend to, got data of shape \(8,\)"),
    ],
)
def test_a_window_that_does_not_fit_is_refused(
    side: int, shape: tuple[int, ...], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Window(side, 4, shape)
