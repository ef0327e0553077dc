"""The report on masked gradients: silent where gradients lead, loud where they do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from linear_classifiers import distances, inputs, labels, linear_net, smoothed
from sklearn.ensemble import RandomForestClassifier
from torch import nn

from randsmooth import SmoothedClassifier
from randsmooth.attacks import PGD, CarliniWagner, gradient_masking_report
from randsmooth.exceptions import AttackError

NET = linear_net()
EVERY = inputs(60)
X = EVERY[distances(NET, EVERY, "l2") > 0.06]
Y = labels(NET, X)
EXACT = distances(NET, X, "l2")
SIZE = float(np.median(EXACT))
SETTINGS = {"method": PGD(n_steps=30), "clip_range": (-5.0, 5.0), "n_noise": 16}


class Saturated(nn.Module):
    """The same decision, with outputs so large that gradients vanish in single precision."""

    def __init__(self) -> None:
        super().__init__()
        self.net = linear_net()

    def forward(self, x):
        return 1e6 * self.net(x)


class Stairs(nn.Module):
    """The same decision nearly, with gradients that point the wrong way."""

    def __init__(self) -> None:
        super().__init__()
        self.net = linear_net()

    def forward(self, x):
        z = self.net(x)
        return z.detach() * 2 - z


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_linear_classifier_hides_nothing(norm: str) -> None:
    size = float(np.median(distances(NET, X, norm)))
    source = linear_net(seed=5)
    report = gradient_masking_report(smoothed(NET), X, Y, size, norm, source=source, **SETTINGS)
    assert not report.suspicious
    assert len(report.lines) == 5
    assert str(report).count("good") == 5
    by_question = {line.question: line.figures for line in report.lines}
    unbounded = by_question["Is it always broken without bounds?"]
    assert unbounded["success"] == 1
    rises = by_question["Does the loss rise along its gradient?"]
    assert rises["along"] == 1
    assert 0.2 < rises["random"] < 0.8


def test_without_another_classifier_that_line_is_left_out() -> None:
    report = gradient_masking_report(smoothed(NET), X, Y, SIZE, **SETTINGS)
    assert len(report.lines) == 4


@pytest.mark.parametrize("kind", [Saturated, Stairs])
def test_masked_gradients_are_noticed(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    report = gradient_masking_report(
        smoothed(kind().eval()), X, Y, 1.3 * SIZE, source=NET, **SETTINGS
    )
    assert report.suspicious
    suspicious = {line.question.split()[1] for line in report.lines if line.suspicious}
    assert "the" in suspicious or "it" in suspicious
    assert "SUSPICIOUS" in str(report)


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^eps must be positive"):
        gradient_masking_report(smoothed(NET), X, Y, 0.0)
    with pytest.raises(ValueError, match=r"^norm must be one of 'l2', 'linf', got 'l1'"):
        gradient_masking_report(smoothed(NET), X, Y, 0.1, "l1")
    clf = SmoothedClassifier(RandomForestClassifier(5, random_state=0), 0.1, random_state=0)
    with pytest.raises(TypeError, match=r"^method must do without gradients"):
        gradient_masking_report(clf.fit(X, Y), X, Y, 0.1)
    for method in ("pgd", CarliniWagner()):
        with pytest.raises(
            TypeError, match=r"^method must be a PGD such as PGD\(n_steps=200\), got"
        ):
            gradient_masking_report(smoothed(NET), X, Y, 0.1, method=method)


class Edge(nn.Module):
    """No votes beyond a mark."""

    def __init__(self) -> None:
        super().__init__()
        self.net = linear_net()

    def forward(self, x):
        return torch.where(x[:, :1] > 3, torch.nan, self.net(x))


def test_inputs_that_fail_are_left_out_and_counted() -> None:
    bad = X[:12].copy()
    bad[3, 0] = 4.5
    clf, settings = smoothed(Edge().eval()), {**SETTINGS, "method": PGD(n_steps=5), "n_votes": 100}
    report = gradient_masking_report(clf, bad, Y[:12], SIZE, **settings)
    assert report.n_failed == 1
    assert str(report).endswith("left out    1 inputs that could not be attacked")
    with pytest.raises(AttackError, match=r"^X has 1 inputs that could not be attacked"):
        gradient_masking_report(clf, bad[3:4], Y[3:4], SIZE, **settings)
