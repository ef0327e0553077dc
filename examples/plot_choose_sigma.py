"""
Choose the noise by cross-validation
====================================

More noise reaches larger radii and blurs more detail: no ``sigma`` is best at every radius. Name
the radius that matters, and let a grid search find the noise for it.
"""

# %%
# Search
# ------
#
# A smoothed classifier is a scikit-learn estimator, so ``GridSearchCV`` takes it as it is. The
# scorer is the certified accuracy at one radius. Few draws are enough for a search.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split

from randsmooth import CertifiedAccuracyDisplay, SmoothedClassifier, certified_accuracy_scorer

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, test_size=400, random_state=0)

sigmas = [0.1, 0.2, 0.35, 0.5, 0.75, 1.0]
radii = [0.1, 0.3, 0.6]
search = GridSearchCV(
    SmoothedClassifier(LogisticRegression(max_iter=300), n_estimation=300, random_state=0),
    {"sigma": sigmas},
    scoring={f"{radius}": certified_accuracy_scorer(radius) for radius in radii},
    refit="0.3",
    cv=3,
)
search.fit(X_train, y_train)
print(search.best_params_)

# %%
# Each radius has its own best noise
# ----------------------------------

fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for radius in radii:
    scores = search.cv_results_[f"mean_test_{radius}"]
    (line,) = ax.plot(sigmas, scores, marker="o", markersize=4, label=f"radius {radius}")
    best = int(np.argmax(scores))
    ax.plot(sigmas[best], scores[best], "o", markersize=10, mfc="none", color=line.get_color())
ax.set(
    xlabel=r"$\sigma$",
    ylabel="certified accuracy, cross-validated",
    title="The best noise depends on the radius",
    ylim=(0, 1),
)
ax.spines[["top", "right"]].set_visible(False)
ax.grid(alpha=0.25)
ax.legend(frameon=False)

# %%
# Certify the one that was chosen
# -------------------------------
#
# The test images took no part in the search. They are certified with more draws, each with noise of
# its own, so that their certificates are independent of each other and the band is narrow.

chosen = search.best_estimator_.set_params(n_estimation=2000, common_noise=False)
fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
CertifiedAccuracyDisplay.from_estimator(
    chosen, X_test, y_test, name=rf"$\sigma$ = {chosen.sigma}", ax=ax
)
ax.axvline(0.3, color="0.5", linewidth=1, linestyle=":")
