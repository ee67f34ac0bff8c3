"""Can a classifier tell two samples apart on held-out points? The test known as C2ST."""

from __future__ import annotations

__all__ = ["ClassifierTest", "classifier_test"]

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ppl_gen.contexts import seeded
from ppl_gen.inference.estimate import Share, summarised
from ppl_gen.inference.findings import Verdict
from ppl_gen.inference.result import Result
from ppl_gen.inference.samples.permutation import verdict_of
from ppl_gen.inference.samples.vectors import Features, as_vectors, expect_permutations

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False, repr=False)
class ClassifierTest(Result):
    """The outcome of a classifier two-sample test.

    Attributes:
        accuracy: On held-out points, half of each sample; ½ where the classifier sees no
            difference. Its error is that of counting, with the classifier as it was trained.
        p_value: The chance of such a difference in scores, or a larger one, if both samples were of
            one distribution.
        null: That difference after each permutation of the held-out labels, (permutations,).

    Examples:
        >>> found = classifier_test(torch.randn(200, 2), torch.randn(200, 2) + 2, seed=0)
        >>> found.accuracy.value.item() > 0.8, found.p_value < 0.01
        (True, True)
    """

    accuracy: Share
    p_value: float
    null: Tensor

    @property
    def verdict(self) -> Verdict:
        """Whether the samples differ at the 5 % level: "different", or "alike", which passes."""
        return verdict_of(self.p_value)

    def table(self) -> pandas.DataFrame:
        """One row: the accuracy with its error and 95 % interval, and the p_value."""
        return summarised({"accuracy": self.accuracy}).assign(p_value=self.p_value)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each permutation: the difference of mean scores after it."""
        import pandas

        return pandas.DataFrame({"null": self.null.cpu().numpy()})

    def __str__(self) -> str:
        return self.headline

    @property
    def headline(self) -> str:
        """Accuracy and p-value."""
        return f"accuracy {self.accuracy}, p = {self.p_value:.3g}"


def classifier_test(
    x: Tensor,
    y: Tensor,
    features: Features | None = None,
    classifier: Any = None,
    permutations: int = 500,
    seed: int | None = None,
) -> ClassifierTest:
    """Held-out accuracy of a classifier of x against y, and p = (1 + #{T_π ≥ T}) / (1 + P).

    Trained on a random half of each sample and tried on the other half. T is the mean score P(y |
    ·) over held-out y, less that over held-out x, and π permutes the held-out labels: with the
    classifier fixed, that has the level α exactly. (The normal p-value of the accuracy has it only
    nearly, since accuracies are few numbers; predictions of several folds are dependent.) Of the
    larger sample a random part is taken, as large as the smaller one.

    Args:
        x: A sample (n, *shape).
        y: Another one (m, *shape).
        features: From (N, *shape) to (N, D); None takes the flattened data. Not fitted on x or y.
        classifier: Any scikit-learn classifier with `predict_proba`, which is copied; logistic
            regression on standardised features if left out, which sees differences in means only.
            One that sees more and needs no scaling: `ExtraTreesClassifier(200,
            min_samples_leaf=3)`.
        permutations: P, at least 19.
        seed: Seeds the halves, the permutations and the classifier, and leaves the global generator
            as it was.

    Raises:
        ValueError: If there are fewer than 10 points or 19 permutations, shapes differ, values are
            not finite, or the classifier has no `predict_proba`.

    Examples:
        >>> x, y = torch.randn(200, 2), torch.randn(200, 2)
        >>> [classifier_test(x, other, seed=0).p_value < 0.01 for other in (y, y + 2)]
        [False, True]

    Reference:
        Lopez-Paz and Oquab (2017), Revisiting classifier two-sample tests, section 3; Cheng and
        Cloninger (2022), Classification logit two-sample testing by neural networks, for scores in
        place of counts.
    """
    expect_permutations(permutations)
    if classifier is None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    if not hasattr(classifier, "predict_proba"):
        raise ValueError(
            f"expected a classifier with predict_proba, got {type(classifier).__name__}; for an "
            "SVC say probability=True"
        )
    x, y = as_vectors(x, y, features, least=10)
    n = min(len(x), len(y))
    half = n // 2
    expect_permutations(permutations, n)
    with seeded(x.device, seed):
        x = x[torch.randperm(len(x), device=x.device)[:n]]
        y = y[torch.randperm(len(y), device=y.device)[:n]]
        fitted = _fitted(classifier, torch.cat([x[:half], y[:half]]), half)
        held_out = torch.cat([x[half:], y[half:]])
        orders = torch.rand(permutations, len(held_out)).argsort(1)
    rest = n - half  # held-out points of each sample
    probabilities = fitted.predict_proba(held_out.cpu().numpy())
    scores = torch.as_tensor(probabilities[:, 1], dtype=torch.float64)
    is_right = (scores > 0.5) == (torch.arange(2 * rest) >= rest)
    # The sum over all held-out points is fixed, so that the sum over one label decides.
    observed = scores[rest:].sum()
    null = scores[orders[:, rest:]].sum(1)
    reached = int((null >= observed - 1e-10 * rest).sum())
    differences = (2 * null - scores.sum()) / rest
    return ClassifierTest(Share.of(is_right), (1 + reached) / (1 + permutations), differences)


def _fitted(classifier: Any, x: Tensor, half: int) -> Any:
    """A copy of the classifier, trained to tell the first `half` of the points from the rest.

    Its random numbers come from torch's generator.
    """
    from sklearn.base import clone

    model = clone(classifier)
    state = int(torch.randint(2**31 - 1, ()))
    for name in model.get_params():
        if name.split("__")[-1] == "random_state":
            model.set_params(**{name: state})
    is_second = torch.arange(2 * half) >= half
    return model.fit(x.cpu().numpy(), is_second.numpy())
