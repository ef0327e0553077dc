"""
Spend as few draws as the question needs
========================================

Certification asks a base classifier about thousands of noisy copies of every input. How many it
takes depends on the question. The largest radius that can be certified takes all that one is ready
to pay; whether given radii hold is often clear after a hundred.
"""

# %%
# Three ways to ask
# -----------------

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from randsmooth import CertifiedAccuracyDisplay, DrawsDisplay, SmoothedClassifier, TwoStage

X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=300, random_state=0)

base = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
clf = SmoothedClassifier(base, sigma=0.25, n_estimation=20_000, random_state=0)
clf.fit(X_train, y_train)

radii = [0, 0.1, 0.2, 0.3, 0.4, 0.5]
records = {
    "20,000 for every input": clf.certificates(X_test),
    "these radii only": clf.certificates(X_test, radii=radii),
}
clf.set_params(n_estimation=TwoStage(n_max=20_000, n_pilot=200, loss=0.05))
records["planned by a pilot"] = clf.certificates(X_test)

# %%
# What they took
# --------------
#
# Most inputs are decided at once. A few lie so close to one of the radii that they take all draws
# there are.

fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
DrawsDisplay.from_certificates(records, ax=ax)

# %%
# What they bought
# ----------------
#
# At the radii that were asked about, the sequential test certifies nearly what the fixed number of
# draws does; the rest is the runner-up, which it does not use. Between the radii it was not asked
# anything, and the curve keeps the value of the next one.

fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
CertifiedAccuracyDisplay.from_certificates(records, y_test, ax=ax, show_band=False)

# %%
# Before a long run, ask what it will take
# ----------------------------------------
#
# The draws that choose the classes are made, and tell the speed and how clear each input is.

clf.set_params(n_estimation=100_000)
print("the largest radii:", clf.expected_cost(X_test))
print("one radius:       ", clf.expected_cost(X_test, radii=0.25))

plt.show()
