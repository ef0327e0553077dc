"""
Which noise for which attack?
=============================

Gaussian noise certifies in l2. An attack that changes a few pixels a lot, or counts how many it
changes, is met better by other noise.
"""

# %%
# Five noises, one data set
# -------------------------
#
# A network is trained for each noise, with the very noise that it is certified with.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from randsmooth import CertifiedAccuracyDisplay, SmoothedClassifier
from randsmooth.noise import Ablation, DeterministicSplitting, Gaussian, Laplace, Uniform

X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=300, random_state=0)
base = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def certified(noise):
    """Train a network for a noise, and certify the test set with it."""
    clf = SmoothedClassifier(
        base, noise=noise, training="augmentation", n_estimation=5_000, random_state=0
    )
    return clf.fit(X_train, y_train).certificates(X_test)


# %%
# In l1
# -----
#
# Laplace noise, uniform noise, and splitting noise whose outcomes are all tried, so that its
# certificates are certain. A Gaussian radius in l2 is one in l1 too.

records = {
    "Laplace": certified(Laplace(0.25)),
    "uniform": certified(Uniform(0.6)),
    "splitting, exact": certified(DeterministicSplitting(1.0, levels=16)),
    "Gaussian, from l2": certified(Gaussian(0.35)),
}
fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
CertifiedAccuracyDisplay.from_certificates(records, y_test, ax=ax, show_band=False)
ax.set_xlabel(r"certified radius ($\ell_1$)")

# %%
# In l0
# -----
#
# Ablation keeps some of the pixels and hides the others. What is certified is how many of them may
# change, by any amount.

fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
pixels = np.arange(4)
for n_kept in (8, 16, 32):
    record = certified(Ablation(n_kept))
    ax.plot(pixels, record.certified_accuracy(y_test, pixels), "o-", label=f"{n_kept} of 64 kept")
ax.set(xlabel="pixels changed", ylabel="certified accuracy", ylim=(0, 1), xticks=pixels)
ax.spines[["top", "right"]].set_visible(False)
ax.grid(alpha=0.25)
ax.legend(frameon=False)
plt.show()
