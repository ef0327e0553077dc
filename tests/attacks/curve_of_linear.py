"""The curve that several tests ask for: a linear classifier under three attacks."""

from __future__ import annotations

import numpy as np
from linear_classifiers import distances, inputs, labels, linear_net, smoothed

from randsmooth.attacks import PGD, CarliniWagner, Transfer

NET = linear_net()
EVERY = inputs(60)
X = EVERY[distances(NET, EVERY, "l2") > 0.06]
Y = labels(NET, X)
CLF = smoothed(NET)
SIZES = np.array([0.0, 0.1, 0.2, 0.4, 0.8])
ATTACKS = {
    "PGD": PGD(n_steps=40),
    "C&W": CarliniWagner(n_steps=60),
    "other net": Transfer(linear_net(seed=5), PGD(n_steps=20)),
}
WIDE = {"clip_range": (-5.0, 5.0)}
