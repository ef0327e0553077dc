"""
Four bounds from the same votes
===============================

Votes are all that is random about a certificate. Once they are counted, any bound turns them into
radii without a single further call of the classifier. Four bounds for Gaussian noise are compared
here on one set of votes.
"""

# %%
# Vote once
# ---------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from randsmooth import SmoothedClassifier
from randsmooth.bounds import neyman_pearson_radius, pixeldp_radius, renyi_radius

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, test_size=250, random_state=0)

base = MLPClassifier(hidden_layer_sizes=(64,), early_stopping=True, random_state=0)
clf = SmoothedClassifier(base, sigma=0.5, n_estimation=2000, random_state=0)
record = clf.fit(X_train, y_train).certificates(X_test)
print(record)

# %%
# Certify four times
# ------------------
#
# ``with_bound`` evaluates the stored counts anew. The names are the keys of
# :data:`randsmooth.bounds.BOUNDS`. Each record spends its whole ``alpha``, so the bound is to be
# chosen before the radii are seen: taking the best of the four for every image would spend
# ``alpha`` four times.

names = {
    "neyman_pearson": "Neyman-Pearson, with runner-up",
    "binary": "Neyman-Pearson, top class only",
    "renyi": "Rényi divergence (Li et al.)",
    "pixeldp": "differential privacy (Lecuyer et al.)",
}
records = {bound: record.with_bound(bound) for bound in names}

radii = np.linspace(0, 1.1, 200)
fig, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
for bound, label in names.items():
    accuracy = records[bound].certified_accuracy(y_test, radii)
    ax.plot(radii, accuracy, label=label, linestyle="--" if bound == "binary" else "-")
ax.set(
    xlabel=r"certified radius ($\ell_2$)",
    ylabel="certified accuracy",
    title="The same votes, four bounds",
    xlim=(0, radii[-1]),
    ylim=(0, 1),
)
ax.spines[["top", "right"]].set_visible(False)
ax.grid(alpha=0.25)
ax.legend(frameon=False)

# %%
# Image by image
# --------------
#
# Given the same two probabilities, no bound exceeds Neyman-Pearson's, which is the best that can
# be had from them. "Top class only" knows but one probability and takes the rest to belong to
# a single rival. It can still come out ahead by a hair, for it has the whole of ``alpha`` for that
# one probability.

best = records["neyman_pearson"].radius
fig, ax = plt.subplots(figsize=(5.2, 4.8), layout="constrained")
ax.axline((0, 0), slope=1, color="0.6", linewidth=1)
for bound, label in list(names.items())[1:]:
    ax.scatter(best, records[bound].radius, s=9, alpha=0.6, label=label)
ax.set(
    xlabel="radius by Neyman-Pearson, with runner-up",
    ylabel="radius by another bound",
    xlim=(0, None),
    ylim=(0, None),
)
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, loc="upper left")

# %%
# The formulas by themselves
# --------------------------
#
# A bound is a plain function of two probabilities and a scale. Here the top class has probability
# ``p``, and its runner-up half of the rest.

p = np.linspace(0.35, 0.999, 400)
fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
ax.plot(p, neyman_pearson_radius(p, (1 - p) / 2, sigma=1.0), label=names["neyman_pearson"])
ax.plot(p, neyman_pearson_radius(p, sigma=1.0), "--", label=names["binary"])
ax.plot(p, renyi_radius(p, (1 - p) / 2, sigma=1.0), label=names["renyi"])
ax.plot(p, pixeldp_radius(p, (1 - p) / 2, sigma=1.0), label=names["pixeldp"])
ax.set(
    xlabel="probability of the top class",
    ylabel=r"radius in units of $\sigma$",
    xlim=(p[0], 1),
    ylim=(0, None),
)
ax.spines[["top", "right"]].set_visible(False)
ax.grid(alpha=0.25)
ax.legend(frameon=False)
