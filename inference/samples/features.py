"""Features to compare samples by: principal components, and a classifier of the same data."""

from __future__ import annotations

__all__ = ["PCA", "Classifier", "classifier_features", "inception_features"]

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ppl_gen import memory
from ppl_gen.arguments import expect_tensor
from ppl_gen.contexts import evaluating, seeded
from ppl_gen.counts import expect_at_least
from ppl_gen.inference.estimate import Share
from ppl_gen.inference.expect import expect_finite, expect_rate
from ppl_gen.inference.samples.vectors import Features
from ppl_gen.nn import conv_features, mlp

_STEPS = 1500  # of training, where epochs are left out
_HELD_OUT = 10  # one in so many
_POOR = 0.8  # held-out accuracy, below which features are said to be poor
_ENLARGED = 64  # images that Inception, which enlarges them to 299 × 299, reads in one go


class PCA:
    """f(x) = Wᵀ (x − μ), with W the leading eigenvectors of the data's covariance.

    Not scikit-learn's, to which it is equal up to signs: it stays on the device of the data, and
    gradients go through it.

    Args:
        data: What it is fitted on, (N, *shape): the training set, not what is compared.
        components: K, the number of features, from 1 to the smaller of N and D.

    Attributes:
        mean: μ, (D,).
        weight: W, (D, K).
        explained: The share of the variance in each component, (K,).

    Raises:
        ValueError: If components is not between 1 and the smaller of N and D, or the data are
            constant.

    Examples:
        >>> PCA(torch.randn(100, 1, 8, 8), 5)(torch.randn(7, 1, 8, 8)).shape
        torch.Size([7, 5])
    """

    def __init__(self, data: Tensor, components: int) -> None:
        expect_tensor("data", data)
        expect_finite([data])
        if data.dim() < 2:
            raise ValueError(f"expected data (N, *shape), got shape {tuple(data.shape)}")
        x = data.detach().flatten(1).double()
        expect_at_least(1, components=components)
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
        """f(x), (N, K), of data (N, *shape)."""
        centred = x.flatten(1) - self.mean.to(x.dtype)
        return centred @ self.weight.to(x.dtype)


class Classifier(nn.Module):
    """p(y | x) = softmax(A h(x) + b), whose features f(x) = (h(x) − μ)/σ are its last hidden layer.

    Calling it gives f(x).

    Args:
        body: h, from (N, *shape) to (N, K).
        head: A and b, from (N, K) to (N, classes).
        x: The data that μ and σ are of, (N, *shape). Hidden units that are constant on them are
            left out of f.
        held_out: Data (M, *shape) and labels, Long (M,), that it was not trained on; None if there
            are none.

    Attributes:
        mean: μ, (D,).
        deviation: σ, (D,).
        held_out: Its accuracy on these data: how far its features are to be trusted, which below
            0.8 is little. None if there are none.

    Examples:
        >>> digits = data.load("digits").train
        >>> x, y = digits.x[:200], digits.y[:200]
        >>> net = classifier_features(x, y, width=8, epochs=1, seed=0)
        >>> net(x[:5]).shape, net.predict(x[:5]).shape
        (torch.Size([5, 4]), torch.Size([5]))
    """

    held_out: Share | None
    mean: Tensor
    deviation: Tensor
    _alive: Tensor

    def __init__(
        self,
        body: nn.Module,
        head: nn.Module,
        x: Tensor,
        held_out: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.body = body
        self.head = head
        with evaluating(body):
            hidden = self._hidden(x).double()
        alive = (hidden != hidden[0]).any(0).nonzero()[:, 0]
        self.register_buffer("_alive", alive)
        self.register_buffer("mean", hidden[:, alive].mean(0).to(x.dtype))
        self.register_buffer("deviation", hidden[:, alive].std(0).to(x.dtype))
        self.held_out = None
        if held_out is not None:
            with evaluating(self):
                self.held_out = self.accuracy(*held_out)

    def forward(self, x: Tensor) -> Tensor:
        """f(x), (N, D) with D at most K; differentiable in x."""
        return (self._hidden(x)[:, self._alive] - self.mean) / self.deviation

    def _hidden(self, x: Tensor) -> Tensor:
        size = memory.rows(memory.FEATURES, x.shape[1:].numel())
        return torch.cat([self.body(part) for part in x.split(size)])

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(y | x) of each class, (N, classes)."""
        return self.head(self._hidden(x)).log_softmax(-1)

    def predict(self, x: Tensor) -> Tensor:
        """The likeliest class, Long (N,)."""
        with torch.no_grad():
            return self.log_prob(x).argmax(-1)

    def accuracy(self, x: Tensor, y: Tensor) -> Share:
        """The share of data whose label is the likeliest class, with the error of counting.

        Args:
            x: Data (N, *shape).
            y: Their labels, Long (N,).
        """
        return Share.of(self.predict(x) == y)

    @property
    def is_poor(self) -> bool:
        """Whether it reads less than four in five of the held-out data rightly.

        Two samples may then differ in what its features do not tell.
        """
        return self.held_out is not None and float(self.held_out.value) < _POOR

    def __str__(self) -> str:
        said = f"classifier with held-out accuracy {self.held_out}"
        if self.is_poor:
            said += ", which is poor: compare in other features too (PCA)"
        return said


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
    """A classifier of labelled data, which it takes some seconds to train.

    It is convolutional on images of 8 to 64 pixels a side, and an MLP on anything else. One datum
    in ten is held out, for its accuracy. Features of digits come from a classifier of digits: a
    network trained on photographs says little about them.

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

    Examples:
        >>> digits = data.load("digits").train
        >>> x, y = digits.x[:200], digits.y[:200]
        >>> features = classifier_features(x, y, width=8, epochs=1, seed=0)
        >>> features(x[:5]).shape  # for mmd, moments or frechet_distance
        torch.Size([5, 4])
    """
    expect_rate(rate, usual=2e-3)
    expect_at_least(1, width=width, epochs=epochs, batch=batch)
    expect_rate(rate, usual=2e-3)
    _expect_labelled(x, y, classes)
    is_labelled = y >= 0
    x = x[is_labelled].detach()
    y = y[is_labelled]
    if classes is None:
        classes = int(y.max()) + 1
    with seeded(x.device, seed):
        order = torch.randperm(len(x), device=x.device)
        held = order[: len(x) // _HELD_OUT]
        kept = order[len(x) // _HELD_OUT :]
        body = _body(x.shape[1:], width)
        network = nn.Sequential(body, nn.Linear(width, classes)).to(x.device, x.dtype)
        if epochs is None:
            epochs = max(1, round(_STEPS / math.ceil(len(kept) / batch)))
        _train(network, x[kept], y[kept], epochs, batch, rate)
    model = Classifier(network[0], network[1], x[kept], (x[held], y[held]))
    return model.eval().requires_grad_(False)


def _body(shape: torch.Size, width: int) -> nn.Module:
    """A network from data of a shape to vectors (N, width)."""
    if len(shape) == 3 and all(8 <= side <= 64 for side in shape[1:]):
        return conv_features(shape, width)
    return nn.Sequential(nn.Flatten(), mlp([shape.numel(), 128, width]), nn.ReLU())


def _train(network: nn.Module, x: Tensor, y: Tensor, epochs: int, batch: int, rate: float) -> None:
    """Descends the cross-entropy by Adam, with a learning rate that falls to 0 along a cosine."""
    optimizer = torch.optim.Adam(network.parameters(), rate)
    steps = epochs * math.ceil(len(x) / batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    with torch.enable_grad():
        for _ in range(epochs):
            for rows in torch.randperm(len(x), device=x.device).split(batch):
                optimizer.zero_grad()
                functional.cross_entropy(network(x[rows]), y[rows]).backward()
                optimizer.step()
                schedule.step()


def inception_features() -> Features:
    """The 2048 features of Inception-v3 that FID and KID are defined by.

    They are features of colour images (N, 3, H, W) in [0, 1]. The weights are loaded by
    torch-fidelity, which downloads them once.

    Raises:
        ImportError: If torch-fidelity is not installed.
        ValueError: When called with anything but colour images.

    Examples:
        >>> features = inception_features()  # doctest: +SKIP
        >>> features(torch.rand(10, 3, 32, 32)).shape  # doctest: +SKIP
        torch.Size([10, 2048])
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
        found = []
        for part in x.split(_ENLARGED):
            as_bytes = (255 * part.clamp(0, 1)).round().to(torch.uint8)
            found.append(network(as_bytes)[0])
        return torch.cat(found)

    return features


def _expect_labelled(x: Tensor, y: Tensor, classes: int | None) -> None:
    """Raises ValueError unless there are data and labels that a classifier can learn from."""
    expect_tensor("data", x)
    expect_tensor("labels", y)
    if x.dim() < 2 or 0 in x.shape:
        raise ValueError(f"expected data (N, *shape), got shape {tuple(x.shape)}")
    if y.dim() != 1 or y.is_floating_point() or len(x) != len(y):
        raise ValueError(
            f"expected labels, Long ({len(x)},), one for each datum, got {y.dtype} {tuple(y.shape)}"
        )
    labels = y[y >= 0]
    least = 2 * _HELD_OUT
    if len(labels) < least:
        raise ValueError(f"expected at least {least} labelled data, got {len(labels)}; label more")
    if len(labels.unique()) < 2:
        raise ValueError(
            "expected at least two classes, got one label; a classifier has nothing to learn"
        )
    top = ""
    if classes is not None:
        top = f" up to {classes - 1}"
    if int(y.min()) < -1 or (classes is not None and int(y.max()) >= classes):
        raise ValueError(
            f"expected labels from 0{top}, or −1 where missing, got {int(y.min())} to "
            f"{int(y.max())}"
        )
    expect_finite([x])
