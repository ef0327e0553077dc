"""
How confident does it stay?
===========================

A certified radius says that the label holds. Certified confidence says how sure the smoothed
classifier still is at every point within a radius: a lower bound on the probability that the base
gives the label, averaged over the noise.
"""

# %%
# Draw once, ask afterwards
# -------------------------
#
# The scores of all draws are sorted into cells as they come. The record that is left answers for
# any radius and any threshold.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from randsmooth import CertifiedConfidenceDisplay, SmoothedClassifier

X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=300, random_state=0)

base = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
clf = SmoothedClassifier(base, sigma=0.25, n_estimation=10_000, random_state=0)
clf.fit(X_train, y_train)
scores = clf.confidence_certificates(X_test)

# %%
# Two bounds from the same draws
# ------------------------------
#
# The mean of the scores alone knows nothing of how they are spread. Their distribution does, and
# proves much more away from the input. The shaded part holds the middle half of the inputs.

fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
CertifiedConfidenceDisplay.from_certificates(scores, ax=ax)

# %%
# Right, and sure of it
# ---------------------
#
# The share of inputs that are right and whose confidence provably stays above a threshold, by the
# distribution of the scores (solid) and by their mean (dashed).

radii = np.linspace(0, 0.8, 81)
fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for threshold in (0.5, 0.7, 0.9):
    accuracy = scores.certified_accuracy(y_test, radii, threshold=threshold)
    (line,) = ax.plot(radii, accuracy, label=f"above {threshold}")
    by_mean = scores.certified_accuracy(y_test, radii, threshold=threshold, method="mean")
    ax.plot(radii, by_mean, linestyle="--", color=line.get_color())
ax.set(xlabel=r"radius ($\ell_2$)", ylabel="share of inputs", xlim=(0, radii[-1]), ylim=(0, 1))
ax.spines[["top", "right"]].set_visible(False)
ax.grid(alpha=0.25)
ax.legend(frameon=False)

# %%
# The second and the third answer
# -------------------------------
#
# Where the label cannot be certified to be the most probable class, it may be certified to stay
# among the first few.

clf.set_params(n_estimation=2_000)
fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for k in (1, 2, 3):
    certified = clf.certify_top_k(X_test, k, labels=y_test)
    ax.plot(radii, [(certified > r).mean() for r in radii], label=f"among the first {k}")
ax.set(
    xlabel=r"radius ($\ell_2$)",
    ylabel="share of true labels",
    xlim=(0, radii[-1]),
    ylim=(0, 1),
)
ax.spines[["top", "right"]].set_visible(False)
ax.grid(alpha=0.25)
ax.legend(frameon=False)
plt.show()
