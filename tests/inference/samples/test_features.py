"""Features: principal components are scikit-learn's, classifiers learn fast and say how well."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import pytest
import torch
from sklearn.decomposition import PCA as Reference
from torch import Tensor

from ppl_gen import data
from ppl_gen.inference.samples.distances import mmd
from ppl_gen.inference.samples.features import (
    PCA,
    Classifier,
    classifier_features,
    inception_features,
)


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.load("digits")


@pytest.fixture(scope="module")
def trained(digits: data.Dataset) -> Classifier:
    return classifier_features(digits.train.x, digits.train.y, seed=0)


class TestPCA:
    def test_it_is_scikit_learn_s(self, digits: data.Dataset) -> None:
        found = PCA(digits.train.x, 6)
        reference = Reference(6).fit(digits.train.x.flatten(1).double().numpy())
        expected = torch.as_tensor(reference.transform(digits.test.x.flatten(1).double().numpy()))
        scores = found(digits.test.x.double())
        signs = (scores * expected).sum(0).sign()
        torch.testing.assert_close(scores * signs, expected)
        torch.testing.assert_close(
            found.explained, torch.as_tensor(reference.explained_variance_ratio_)
        )

    def test_it_keeps_the_dtype_and_lets_gradients_through(self) -> None:
        x = torch.randn(5, 1, 3, 3, requires_grad=True)
        scores = PCA(torch.randn(30, 1, 3, 3), 2)(x)
        scores.sum().backward()
        assert scores.dtype == torch.float32
        assert float(x.grad.abs().max()) > 0


class TestClassifier:
    def test_it_reads_digits(self, trained: Classifier, digits: data.Dataset) -> None:
        """Above 0.95 on data it never saw, and its own held-out accuracy agrees with that."""
        tested = trained.accuracy(digits.test.x, digits.test.y)
        assert float(tested.value) > 0.95
        error = math.hypot(float(tested.standard_error), float(trained.held_out.standard_error))
        assert abs(float(tested.value - trained.held_out.value)) < 4 * error
        assert str(trained).startswith("classifier with held-out accuracy 0.9")

    def test_a_poor_one_is_said_to_be_poor(self) -> None:
        """Labels that data tell nothing of, beside those that are the sign of the first number."""
        x = torch.randn(200, 2)
        guessing = classifier_features(x, torch.randint(2, (200,)), epochs=1, seed=0)
        assert guessing.is_poor
        assert "which is poor: compare in other features too" in str(guessing)
        reading = classifier_features(x, (x[:, 0] > 0).long(), epochs=20, seed=0)
        assert not reading.is_poor
        assert "poor" not in str(reading)

    def test_its_outputs_belong_together(self, trained: Classifier, digits: data.Dataset) -> None:
        x = digits.test.x[:20]
        assert trained(x).shape == (20, len(trained.mean))
        log_prob = trained.log_prob(x)
        torch.testing.assert_close(log_prob.exp().sum(1), torch.ones(20))
        assert torch.equal(trained.predict(x), log_prob.argmax(1))

    def test_its_features_are_standardised_by_the_data(self, digits: data.Dataset) -> None:
        """Mean 0 and variance 1 of each on its training data; none is constant there."""
        body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5), torch.nn.ReLU())
        torch.nn.init.constant_(body[1].bias[2:3], -1e3)  # a unit that never fires
        found = Classifier(body, torch.nn.Linear(5, 3), digits.train.x)
        x = found(digits.train.x)
        assert x.shape[1] <= 4
        torch.testing.assert_close(x.mean(0), torch.zeros(x.shape[1]), atol=1e-4, rtol=0)
        torch.testing.assert_close(x.std(0), torch.ones(x.shape[1]))
        torch.testing.assert_close(
            found.log_prob(digits.test.x), found.head(body(digits.test.x)).log_softmax(-1)
        )

    def test_its_features_see_what_is_not_a_digit(
        self, trained: Classifier, digits: data.Dataset
    ) -> None:
        x, y = digits.test.x[:140], digits.test.x[140:280]
        shuffled = y.flatten(1)[:, torch.randperm(64)].reshape_as(y)
        alike, apart = mmd(x, y, features=trained), mmd(x, shuffled, features=trained)
        assert abs(float(alike.value)) < 4 * float(alike.standard_error)
        assert float(apart.value) > 10 * float(apart.standard_error)

    def test_it_is_frozen_and_differentiable_in_the_data(
        self, trained: Classifier, digits: data.Dataset
    ) -> None:
        x = digits.test.x[:3].clone().requires_grad_()
        trained(x).sum().backward()
        assert float(x.grad.abs().max()) > 0
        assert not any(p.requires_grad for p in trained.parameters())
        assert not trained.training

    def test_vectors_and_missing_labels(self) -> None:
        """Two clusters four standard deviations apart, Φ(2) = 0.977 at best; a third of the labels
        missing.
        """
        y = torch.arange(900) % 3 - 1
        x = torch.randn(900, 2) + 4 * y.clamp(min=0)[:, None] * torch.tensor([1.0, 0.0])
        found = classifier_features(x, y, width=8, epochs=20)
        accuracy = found.accuracy(x[y >= 0], y[y >= 0])
        assert float(accuracy.value) > 0.977 - 4 * float(accuracy.standard_error)
        assert found.log_prob(x).shape == (900, 2)

    def test_colour_images_of_other_sizes(self) -> None:
        found = classifier_features(
            torch.rand(40, 3, 20, 17), torch.arange(40) % 4, classes=5, epochs=1
        )
        assert found(torch.rand(2, 3, 20, 17)).shape == (2, len(found.mean))
        assert found.log_prob(torch.rand(2, 3, 20, 17)).shape == (2, 5)

    def test_a_seed_repeats_and_leaves_the_generator(self) -> None:
        x, y, state = torch.randn(60, 2), torch.arange(60) % 2, torch.get_rng_state()
        first, second = (classifier_features(x, y, epochs=1, seed=1) for _ in range(2))
        assert torch.equal(first(x), second(x))
        assert torch.equal(torch.get_rng_state(), state)


class TestInception:
    def test_without_torch_fidelity_it_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
        with pytest.raises(ImportError, match=r"pip install 'ppl-gen\[fidelity\]'"):
            inception_features()

    def test_grey_images_are_refused_and_bytes_are_handed_over(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The network itself is 90 MB of weights: here one that returns what it was given."""

        class Network(torch.nn.Module):
            def __init__(self, *args: object) -> None:
                super().__init__()

            def forward(self, x: Tensor) -> tuple[Tensor]:
                return (x.flatten(1),)

        stand_in = type(sys)("torch_fidelity.feature_extractor_inceptionv3")
        stand_in.FeatureExtractorInceptionV3 = Network
        monkeypatch.setitem(sys.modules, "torch_fidelity", type(sys)("torch_fidelity"))
        monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", stand_in)
        features = inception_features()
        found = features(torch.tensor([0.0, 0.5, 1.2])[:, None, None, None].expand(3, 3, 2, 2))
        assert found.dtype == torch.uint8
        assert found[:, 0].tolist() == [0, 128, 255]
        with pytest.raises(
            ValueError, match=r"expected colour images \(N, 3, H, W\), got \(2, 1, 8, 8\)"
        ):
            features(torch.rand(2, 1, 8, 8))


X, Y = torch.randn(40, 2), torch.arange(40) % 2


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: PCA(X, 3), "expected 1 to 2 components of 40 data of 2 numbers, got 3"),
        (lambda: PCA(X, 0), "got 0"),
        (lambda: PCA(torch.ones(9, 2), 1), "zero variance in all features"),
        (
            lambda: classifier_features(X, Y[:9]),
            r"Long \(40,\), one for each datum, got torch.int64 \(9,\)",
        ),
        (lambda: classifier_features(X, Y.float()), "got torch.float32"),
        (lambda: classifier_features(X[:9], Y[:9]), "at least 20 labelled data, got 9"),
        (lambda: classifier_features(X, 0 * Y), "at least two classes, got one label"),
        (
            lambda: classifier_features(X, Y + 1, classes=2),
            "labels from 0 up to 1, or −1 where missing, got 1 to 2",
        ),
        (lambda: classifier_features(X / 0, Y), "expected finite data"),
    ],
)
def test_bad_input(call: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()
