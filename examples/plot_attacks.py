"""
Attack what was certified
=========================

How far is a certificate from the truth? Attacks find out from the other side: the truth lies
between the certified accuracy and what the best attack leaves.
"""

# %%
# Handwritten digits, a small network, smoothed and plain.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torch import nn

from randsmooth import RobustAccuracyDisplay, SmoothedClassifier
from randsmooth.attacks import PGD, Transfer, gradient_masking_report, robust_accuracy_curve

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=100, random_state=0)


class Network(nn.Sequential):
    """One hidden layer."""

    def __init__(self):
        super().__init__(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


net = NeuralNetClassifier(
    Network,
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=2e-3,
    max_epochs=20,
    iterator_train__shuffle=True,
    train_split=None,
    verbose=0,
)
torch.manual_seed(0)
plain = net.fit(X_train, y_train)
clf = SmoothedClassifier(net, sigma=0.35, n_estimation=2000, random_state=0).fit(X_train, y_train)

# %%
# Three attacks: one follows the gradient of the average over 32 draws of the noise, one searches
# for the smallest perturbation, one fools the plain network and hopes that this carries over.
# Whatever they find is judged by fresh votes.

sizes = np.arange(0, 1.6, 0.25)
attacks = {
    "PGD": PGD(n_steps=40),
    "Carlini-Wagner": "cw",
    "transfer": Transfer(plain, PGD(n_steps=40)),
}
smoothed_curve = robust_accuracy_curve(clf, X_test, y_test, attacks, sizes, norm="l2")
plain_curve = robust_accuracy_curve(plain, X_test, y_test, ["pgd", "cw"], sizes, norm="l2")

fig, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
RobustAccuracyDisplay.from_curve(smoothed_curve, ax=axes[0])
axes[0].set_title("One classifier, three attacks")
both = {"smoothed": smoothed_curve, "plain": plain_curve}
RobustAccuracyDisplay.from_curve(both, ax=axes[1])
axes[1].set_title("The worst case of all attacks")
plt.show()

# %%
# Inputs that were changed within their certified radius: that is to be expected for no more than
# `alpha` of them.

print(f"{len(smoothed_curve.broken())} of {len(X_test)} certificates were broken.")

# %%
# Robustness can be feigned by gradients that lead nowhere. Five questions say whether it is.

print(gradient_masking_report(clf, X_test, y_test, 0.5, source=plain, method=PGD(n_steps=20)))
