"""
Train for a certificate
=======================

Four ways to train the same network, each one object handed to ``training=``, and the certified
accuracy that each buys. What they minimise is in the history of the net, term by term.
"""

# %%
# Handwritten digits, and a small network as a skorch net. Its class goes in, not an instance, so
# that every training starts afresh.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torch import nn

from randsmooth import CertifiedAccuracyDisplay, SmoothedClassifier
from randsmooth.training import MACER, Consistency, GaussianAugmentation, StabilityTraining

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=200, random_state=0)


class Network(nn.Sequential):
    """One hidden layer."""

    def __init__(self):
        super().__init__(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


net = NeuralNetClassifier(
    Network,
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=2e-3,
    max_epochs=15,
    batch_size=64,
    iterator_train__shuffle=True,
    train_split=None,
    verbose=0,
)

# %%
# Noise and seed come from the smoothed classifier. ``None`` trains on the inputs as they are.

sigma = 0.5
strategies = {
    "no noise": None,
    "augmentation": GaussianAugmentation(n_draws=4),
    "stability": StabilityTraining(gamma=2.0),
    "consistency": Consistency(5.0, n_draws=4),
    "MACER": MACER(4.0, n_draws=4),
}
fitted = {
    name: SmoothedClassifier(net, sigma, training=strategy, n_estimation=1000, random_state=0).fit(
        X_train, y_train
    )
    for name, strategy in strategies.items()
}

# %%
# The more a strategy asks for under noise, the less it keeps without any: the curves cross.

fig, ax = plt.subplots(layout="constrained")
for name, clf in fitted.items():
    CertifiedAccuracyDisplay.from_estimator(clf, X_test, y_test, name=name, ax=ax, show_band=False)
ax.set_title(f"One network, five trainings, sigma = {sigma}")
plt.show()

# %%
# History has every term of the loss under its name, and ``train_loss`` is their sum.

history = fitted["consistency"].estimator_.history
terms = ["criterion_loss", "consistency_loss", "entropy_loss"]
fig, ax = plt.subplots(layout="constrained")
ax.stackplot(range(1, len(history) + 1), [history[:, term] for term in terms], labels=terms)
ax.plot(range(1, len(history) + 1), history[:, "train_loss"], "k", label="train_loss")
ax.set(xlabel="epoch", ylabel="loss", title="Consistency: what is minimised")
ax.legend(frameon=False)
plt.show()
