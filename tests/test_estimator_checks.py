"""Every estimator check of scikit-learn, on a default, a scikit-learn and a skorch configuration.

No check is expected to fail.
"""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import estimator_checks_generator
from skorch import NeuralNetClassifier

from nets import Perceptron
from randsmooth import SmoothedClassifier

NET = NeuralNetClassifier(
    Perceptron,
    module__n_classes=10,
    criterion=torch.nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=0.02,
    max_epochs=30,
    batch_size=32,
    iterator_train__shuffle=True,
    train_split=None,
    verbose=0,
)

CONFIGURATIONS = {
    "default": SmoothedClassifier(),
    "pipeline": SmoothedClassifier(
        make_pipeline(StandardScaler(), LogisticRegression()), sigma=0.1, common_noise=False
    ),
    "tree": SmoothedClassifier(DecisionTreeClassifier(random_state=0), 0.1, noise="laplace"),
    "skorch": SmoothedClassifier(NET, sigma=0.1, random_state=0),
}

CHECKS = [
    pytest.param(estimator, check, id=f"{name}-{getattr(check, 'func', check).__name__}-{number}")
    for name, configuration in CONFIGURATIONS.items()
    for number, (estimator, check) in enumerate(estimator_checks_generator(configuration))
]


@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_estimator_check_passes(estimator, check) -> None:
    check(estimator)
