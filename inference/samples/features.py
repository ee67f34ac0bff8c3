"""Features to compare samples by: principal components, and a small classifier trained on the data
set in question.
"""

from __future__ import annotations

__all__ = ["PCA", "Classifier", "classifier_features", "inception_features"]

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ppl_gen.contexts import evaluating, seeded
from ppl_gen.inference.estimate import Share
from ppl_gen.inference.samples.vectors import Features
from ppl_gen.nn import conv_features, mlp

_CHUNK = 1024
_STEPS = 1500  # of training, where epochs are left out
_HELD_OUT = 10  # one in so many


class PCA:
    """f(x) = Wᵀ (x − μ), with W the leading eigenvectors of the data's covariance.

    Args:
        data: What it is fitted on, (N, *shape): the training set, not what is compared.
        components: K, the number of features.

    Attributes:
        mean: μ, (D,).
        weight: W, (D, K).
        explained: The share of the variance in each component, (K,).

    Raises:
        ValueError: If components is not between 1 and the smaller of N and D, or the data are
            constant.

    Example:
        >>> PCA(torch.randn(100, 1, 8, 8), 5)(torch.randn(7, 1, 8, 8)).shape
        torch.Size([7, 5])
    """

    def __init__(self, data: Tensor, components: int) -> None:
        x = data.detach().flatten(1).double()
        if not 1 <= components <= min(x.shape):
            raise ValueError(
                f"expected 1 to {min(x.shape)} components of {len(x)} data of {x.shape[1]} "
                f"numbers, got {components}"
            )
        self.mean = x.mean(0)
        variances, vectors = torch.linalg.eigh((x - self.mean).T.cov())
        if not float(variances[-1]) > 0:
            raise ValueError(
                "expected data that vary, got zero variance in all features; give other data"
            )
        self.weight = vectors.flip(1)[:, :components]
        self.explained = (variances.flip(0) / variances.sum())[:components]

    def __call__(self, x: Tensor) -> Tensor:
        mean, weight = self.mean.to(x.dtype), self.weight.to(x.dtype)
        return (x.flatten(1) - mean) @ weight


class Classifier(nn.Module):
    """p(y | x) = softmax(A h(x) + b); calling it gives f(x) = (h(x) − μ)/σ, its last hidden layer
    in standard deviations.

    Args:
        body: h, from (N, *shape) to (N, K).
        head: From (N, K) to (N, classes).
        x: The data that μ and σ are of, (N, *shape). Hidden units that are constant on them are
            left out of f.

    Attributes:
        mean: μ, (D,).
        deviation: σ, (D,).
        held_out: Its accuracy on data that it was not trained on: how far its features are to be
            trusted.
    """

    held_out: Share
    mean: Tensor
    deviation: Tensor
    _alive: Tensor

    def __init__(self, body: nn.Module, head: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.body, self.head = body, head
        with evaluating(body):
            hidden = self._hidden(x).double()
        alive = (hidden != hidden[0]).any(0).nonzero()[:, 0]
        self.register_buffer("_alive", alive)
        self.register_buffer("mean", hidden[:, alive].mean(0).to(x.dtype))
        self.register_buffer("deviation", hidden[:, alive].std(0).to(x.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """f(x), (N, D) with D at most K; differentiable in x."""
        return (self._hidden(x)[:, self._alive] - self.mean) / self.deviation

    def _hidden(self, x: Tensor) -> Tensor:
        return torch.cat([self.body(part) for part in x.split(_CHUNK)])

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(y | x) of each class, (N, classes)."""
        return self.head(self._hidden(x)).log_softmax(-1)

    def predict(self, x: Tensor) -> Tensor:
        """The likeliest class, Long (N,)."""
        with torch.no_grad():
            return self.log_prob(x).argmax(-1)

    def accuracy(self, x: Tensor, y: Tensor) -> Share:
        """The share of data (N, *shape) whose label, Long (N,), is the likeliest class, with the
        error of counting.
        """
        return Share.of(self.predict(x) == y)

    def __str__(self) -> str:
        return f"classifier with held-out accuracy {self.held_out}"


def classifier_features(
    x: Tensor,
    y: Tensor,
    classes: int | None = None,
    *,
    width: int = 64,
    epochs: int | None = None,
    batch: int = 64,
    rate: float = 2e-3,
    seed: int | None = None,
) -> Classifier:
    """Trains a classifier of labelled data for some seconds: convolutional on images of 8 to 64
    pixels a side, or an MLP.

    One datum in ten is held out, for its accuracy. Features of digits come from a classifier of
    digits: a network trained on photographs says little about them.

    Args:
        x: The training set, (N, *shape); images as (N, C, H, W).
        y: Labels, Long (N,); data with −1 are left out.
        classes: The number of labels; the largest one plus 1 if left out.
        width: K, the number of features, of which those that are constant on the data are left out.
        epochs: How often the data are seen; None takes as many as make 1500 steps, and at least
            one.
        batch: The number of data in a step.
        rate: The learning rate of Adam, which falls to 0 along a cosine.
        seed: Seeds weights and batches and leaves the global generator as it was.

    Returns:
        A `Classifier` in evaluation mode, its parameters frozen.

    Raises:
        ValueError: If x and y differ in length, labels are out of range or of fewer than two
            classes, there are fewer than 20 labelled data, or values are not finite.
    """
    _check_labels(x, y, classes)
    x, y = x[y >= 0].detach(), y[y >= 0]
    outputs = int(y.max()) + 1 if classes is None else classes
    with seeded(x.device, seed):
        order = torch.randperm(len(x), device=x.device)
        held, kept = order[: len(x) // _HELD_OUT], order[len(x) // _HELD_OUT :]
        image = x.dim() == 4 and all(8 <= side <= 64 for side in x.shape[2:])
        size = x[0].numel()
        body = (
            conv_features(x.shape[1:], width)
            if image
            else nn.Sequential(nn.Flatten(), mlp([size, 128, width]), nn.ReLU())
        )
        network = nn.Sequential(body, nn.Linear(width, outputs)).to(x.device, x.dtype)
        epochs = max(1, round(_STEPS / -(-len(kept) // batch))) if epochs is None else epochs
        _train(network, x[kept], y[kept], epochs, batch, rate)
    model = Classifier(network[0], network[1], x[kept]).eval().requires_grad_(False)
    model.held_out = model.accuracy(x[held], y[held])
    return model


def _train(network: nn.Module, x: Tensor, y: Tensor, epochs: int, batch: int, rate: float) -> None:
    optimizer = torch.optim.Adam(network.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, max(1, epochs * -(-len(x) // batch))
    )
    with torch.enable_grad():
        for _ in range(epochs):
            for rows in torch.randperm(len(x), device=x.device).split(batch):
                optimizer.zero_grad()
                functional.cross_entropy(network(x[rows]), y[rows]).backward()
                optimizer.step()
                schedule.step()


def inception_features() -> Features:
    """The 2048 features of Inception-v3 that FID and KID are defined by, of colour images (N, 3, H,
    W) in [0, 1].

    The weights are loaded by torch-fidelity, which downloads them once.

    Raises:
        ImportError: If torch-fidelity is not installed.
        ValueError: When called with anything but colour images.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise ImportError(
            "Inception features need torch-fidelity: pip install 'ppl-gen[fidelity]'"
        ) from error
    network: Any = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])

    def features(x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != 3:
            raise ValueError(
                f"expected colour images (N, 3, H, W), got {tuple(x.shape)}; for grey ones take "
                "classifier_features"
            )
        network.to(x.device)
        parts = [
            network((255 * part.clamp(0, 1)).round().to(torch.uint8))[0] for part in x.split(64)
        ]
        return torch.cat(parts)

    return features


def _check_labels(x: Tensor, y: Tensor, classes: int | None) -> None:
    if y.dim() != 1 or y.is_floating_point() or len(x) != len(y):
        raise ValueError(
            f"expected labels, Long ({len(x)},), one for each datum, got {y.dtype} {tuple(y.shape)}"
        )
    if int((y >= 0).sum()) < 2 * _HELD_OUT:
        raise ValueError(
            f"expected at least {2 * _HELD_OUT} labelled data, got {int((y >= 0).sum())}; label "
            "more"
        )
    if len(y[y >= 0].unique()) < 2:
        raise ValueError(
            "expected at least two classes, got one label; a classifier has nothing to learn"
        )
    if int(y.min()) < -1 or (classes is not None and int(y.max()) >= classes):
        top = "" if classes is None else f" up to {classes - 1}"
        raise ValueError(
            f"expected labels from 0{top}, or −1 where missing, got {int(y.min())} to "
            f"{int(y.max())}"
        )
    if not bool(torch.isfinite(x).all()):
        raise ValueError("expected finite data, got NaN or infinite values; remove them")
