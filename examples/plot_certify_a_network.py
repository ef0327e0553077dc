"""
Certify a convolutional network
===============================

Two copies of one small network read 8x8 digits. The first is trained on the images as they are, the
second by stability training, which ties its answer on a noisy image to its answer on the clean one.
Both are smoothed by the same noise and certified alike: training changes how much there is to
certify, never whether a certificate is true.
"""

# %%
# The network
# -----------
#
# Any torch module that returns one column a class will do. It is handed over as a class, and the
# smoothed classifier builds and trains its own.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from randsmooth import CertifiedAccuracyDisplay, SmoothedClassifier


class DigitNet(nn.Sequential):
    """Two convolutions and one linear layer, on images of shape (1, 8, 8)."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 10),
        )


torch.set_num_threads(1)
X, y = load_digits(return_X_y=True)
X = (X / 16).reshape(-1, 1, 8, 8).astype(np.float32)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=200, random_state=0)

# %%
# Train and certify
# -----------------
#
# ``sigma`` is in the units of the pixels, which lie between 0 and 1. ``training`` is the only
# difference between the two.

records = {}
for name, training in [("plain training", None), ("stability training", "stability")]:
    clf = SmoothedClassifier(
        DigitNet, sigma=0.5, training=training, n_estimation=500, alpha=0.001, random_state=0
    )
    records[name] = clf.fit(X_train, y_train).certificates(X_test)
    print(f"{name:20s} {records[name]}")

# %%
# What it certifies
# -----------------
#
# The height of a curve at a radius is the share of test images that are classified right *and*
# keep that answer under every change of the image shorter than the radius.

fig, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
CertifiedAccuracyDisplay.from_certificates(records, y_test, show_band=False, ax=ax)
ax.set_title("One network, two trainings, one noise")

# %%
# Look at single images
# ---------------------
#
# A record holds one row per image. Above are the images with the largest certified radius, below
# some with the smallest. Where the classifier abstains, it certifies nothing.

record = records["stability training"]
order = np.argsort(-record.radius)
fig, axes = plt.subplots(2, 6, figsize=(7, 2.9), layout="constrained")
for ax, row in zip(axes.flat, [*order[:6], *order[-6:]], strict=True):
    ax.imshow(X_test[row, 0], cmap="gray_r", vmin=0, vmax=1)
    certified = f"{record.label[row]}, within {record.radius[row]:.2f}"
    ax.set_title("abstains" if record.abstained[row] else certified, fontsize=9)
    ax.set_axis_off()

# %%
# Every radius holds with probability at least ``1 - alpha`` over the noise, for its image by
# itself. See :doc:`/what_a_certificate_says` for what may be concluded, and what not.
