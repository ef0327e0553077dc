"""Attacks against classifiers whose distance to the boundary is known, and what they refuse."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from linear_classifiers import LAPLACE, distances, inputs, labels, linear_net, smoothed
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from skorch import NeuralNetClassifier
from torch import nn

from randsmooth import SmoothedClassifier
from randsmooth.attacks import (
    METHODS,
    PGD,
    SPSA,
    AttackMethod,
    Boundary,
    CarliniWagner,
    attack,
    robust_accuracy_curve,
)
from randsmooth.attacks.method import Question
from randsmooth.noise import Flips

NET = linear_net()
EVERY = inputs(60)
X = EVERY[distances(NET, EVERY, "l2") > 0.06]  # nearer ones have votes that are undecided
Y = labels(NET, X)
CLF = smoothed(NET)
WIDE = (-5.0, 5.0)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
@pytest.mark.parametrize("average", ["probability", "loss"])
@pytest.mark.parametrize("loss", ["log_loss", "margin"])
def test_pgd_breaks_a_linear_classifier_beyond_its_distance_and_never_within(
    norm: str, average: str, loss: str
) -> None:
    exact = distances(NET, X, norm)
    method = PGD(n_steps=60, average=average, loss=loss)
    settings = {"norm": norm, "clip_range": WIDE, "n_votes": 4000}
    within = attack(CLF, X, Y, method, eps=0.85 * exact, **settings)
    assert not within.success.any()
    beyond = attack(CLF, X, Y, method, eps=1.15 * exact, **settings)
    assert beyond.success.all()
    assert (beyond.distance <= beyond.eps).all()
    order = {"l1": 1, "l2": 2, "linf": np.inf}[norm]
    moved = beyond.adversarial.astype(float) - X.astype(float)
    assert np.allclose(beyond.distance, np.linalg.norm(moved, order, axis=1), rtol=1e-12)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_differences_find_what_gradients_find(norm: str) -> None:
    exact = distances(NET, X, norm)
    method = SPSA(n_steps=40, n_directions=32)
    found = attack(CLF, X, Y, method, norm=norm, eps=1.3 * exact, n_noise=16, clip_range=WIDE)
    assert found.success.mean() > 0.9
    within = attack(CLF, X, Y, method, norm=norm, eps=0.9 * exact, n_noise=16, clip_range=WIDE)
    assert not within.success.any()


@pytest.mark.parametrize(
    ("method", "slack"), [(CarliniWagner(n_steps=150), 1.15), (Boundary(n_steps=1500), 1.35)]
)
def test_minimal_attacks_come_close_to_the_distance_and_not_below(method, slack: float) -> None:
    exact = distances(NET, X, "l2")
    found = attack(CLF, X, Y, method, n_noise=64, clip_range=WIDE, n_votes=4000)
    assert found.success.mean() > 0.9
    ratio = found.distance[found.success] / exact[found.success]
    assert ratio.min() > 0.97  # votes are a sample
    assert np.median(ratio) < slack


def test_minimal_attacks_count_what_is_within_a_size_that_is_asked_for() -> None:
    exact = distances(NET, X, "l2")
    found = attack(CLF, X, Y, CarliniWagner(n_steps=60), eps=np.median(exact), clip_range=WIDE)
    assert (found.success == (found.label != Y) & (found.distance <= np.median(exact))).all()
    assert 0 < found.success.sum() < len(X)


def test_inputs_that_are_wrong_as_they_are_stay_where_they_are() -> None:
    found = attack(CLF, X, 1 - Y, PGD(n_steps=5), eps=0.1)
    assert found.success.all()
    assert (found.distance == 0).all()
    assert np.array_equal(found.adversarial, X)


def test_undecided_inputs_are_attacked_or_wrong_as_they_are() -> None:
    near = EVERY[distances(NET, EVERY, "l2") < 0.03]
    y = labels(NET, near)
    found = attack(CLF, near, y, PGD(n_steps=10), eps=0.5, n_votes=50)
    assert len(near) > 5
    assert found.success.all()
    assert (found.distance == 0).any()
    assert (found.distance > 0).any()


def test_what_is_found_stays_in_the_clip_range() -> None:
    low, high = float(X.min()), float(X.max())
    for method in ("pgd", "margin", "cw"):
        found = attack(CLF, X, Y, method, eps=0.5, clip_range=(low, high))
        assert found.adversarial.min() >= low
        assert found.adversarial.max() <= high


def test_the_same_seeds_give_the_same_result_and_others_do_not() -> None:
    first, again = (attack(CLF, X, Y, PGD(n_steps=5), eps=0.3) for _ in range(2))
    assert np.array_equal(first.adversarial, again.adversarial)
    assert np.array_equal(first.counts, again.counts)
    start = attack(CLF, X, Y, PGD(n_steps=5), eps=0.3, random_state=1)
    noise = attack(CLF, X, Y, PGD(n_steps=5), eps=0.3, noise_seed=5)
    assert not np.array_equal(first.adversarial, start.adversarial)
    assert not np.array_equal(first.counts, noise.counts)
    state = torch.get_rng_state()
    attack(CLF, X, Y, PGD(n_steps=2), eps=0.3)
    assert torch.equal(state, torch.get_rng_state())


def test_restarts_only_add_successes() -> None:
    eps = distances(NET, X, "l2") * 1.02
    once = attack(CLF, X, Y, PGD(n_steps=3), eps=eps, n_votes=4000, clip_range=WIDE)
    more = attack(CLF, X, Y, PGD(n_steps=3), eps=eps, n_votes=4000, n_restarts=4, clip_range=WIDE)
    assert more.success.sum() >= once.success.sum()
    assert more.settings["n_restarts"] == 4


def test_laplace_noise_is_attacked_in_l1() -> None:
    clf = smoothed(NET, LAPLACE)
    record = clf.certificates(X)
    right = (record.label == Y) & ~record.abstained
    found = attack(clf, X[right], Y[right], "pgd", norm="l1", eps=0.99 * record.radius[right])
    assert not found.success.any()
    exact = distances(NET, X, "l1")
    beyond = attack(clf, X, Y, "pgd", norm="l1", eps=1.3 * exact, clip_range=WIDE)
    assert beyond.success.all()


def test_a_forest_is_attacked_by_votes() -> None:
    rng = np.random.default_rng(0)
    table = rng.uniform(0, 1, (300, 2))
    y = np.where(table[:, 0] > 0.5, "yes", "no")
    clf = SmoothedClassifier(RandomForestClassifier(20, random_state=0), 0.1, random_state=0)
    clf.fit(table, y)
    found = attack(clf, table[:20], y[:20], Boundary(n_steps=300), n_noise=32)
    assert found.success.mean() >= 0.9
    assert set(found.label) <= {"yes", "no"}
    assert np.median(found.distance / np.abs(table[:20, 0] - 0.5)) < 1.5
    with pytest.raises(TypeError, match=r"^method must do without gradients .* got 'pgd'. Take"):
        attack(clf, table[:5], y[:5], eps=0.1)


def test_a_net_without_noise_is_attacked_too() -> None:
    exact = distances(NET, X, "l2")
    assert attack(NET, X, Y, "pgd", eps=1.05 * exact, clip_range=WIDE).success.all()
    assert not attack(NET, X, Y, "pgd", eps=0.95 * exact, clip_range=WIDE).success.any()
    found = attack(NET, X, Y, "cw", clip_range=WIDE)
    assert found.success.all()
    assert (found.distance >= 0.999 * exact).all()


def test_a_skorch_net_with_labels_of_its_own_is_attacked() -> None:
    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = linear_net()

        def forward(self, x):
            return self.net(x)

    names = np.array(["no", "yes"])
    net = NeuralNetClassifier(Linear, criterion=nn.CrossEntropyLoss, max_epochs=0, verbose=0)
    clf = SmoothedClassifier(net, 0.1, random_state=0).fit(X, names[Y])
    exact = distances(NET, X, "l2")
    found = attack(clf, X, names[Y], "pgd", eps=1.2 * exact, clip_range=WIDE)
    assert found.success.all()
    assert np.array_equal(found.label, names[1 - Y])


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"method": "fgsm"}, ValueError, "method must be one of 'pgd', 'margin', 'cw',"),
        ({"method": 3}, TypeError, "method must be one of 'pgd', .* got 3."),
        ({"method": PGD(n_steps=0)}, ValueError, "n_steps must be a positive integer, got 0."),
        ({"method": PGD(loss="l2")}, ValueError, "loss must be one of 'log_loss', 'margin'"),
        ({"method": PGD(average="no")}, ValueError, "average must be one of 'probability', 'loss'"),
        ({"method": PGD(relative_step_size=-1.0)}, ValueError, "relative_step_size must be posi"),
        ({"method": SPSA(n_directions=0)}, ValueError, "n_directions must be a positive integer"),
        ({"method": Boundary(margin=1.0)}, ValueError, "margin must be below 1, got 1.0."),
        ({"method": CarliniWagner(confidence=-1.0)}, ValueError, "confidence must be"),
        ({"norm": "l0"}, ValueError, "norm must be 'l1' or 'l2' or 'linf' for 'pgd', got 'l0'."),
        ({"method": "cw", "norm": "linf"}, ValueError, "norm must be 'l2' for 'cw', got 'linf'."),
        ({"eps": None}, ValueError, "eps must be a positive size for 'pgd', got None."),
        (
            {"eps": 0.0},
            ValueError,
            "eps must be positive and finite for 'pgd', one number or .* 0.0",
        ),
        ({"eps": [1.0, 2.0]}, ValueError, "eps must be positive and finite for 'pgd', one number"),
        ({"eps": np.inf}, ValueError, "eps must be positive and finite for 'pgd', .* got inf"),
        ({"eps": "big"}, ValueError, "eps must be positive and finite for 'pgd', .* got 'big'"),
        ({"method": "cw", "eps": -1.0}, ValueError, "eps must be positive, one number or one per"),
        ({"random_state": None}, ValueError, "random_state must be an integer of at least 0, got"),
        ({"random_state": -1}, ValueError, "random_state must be an integer of at least 0, got -1"),
        ({"method": PGD(random_start="no")}, ValueError, "random_start must be True or False, got"),
        ({"clip_range": "unit"}, ValueError, "clip_range must be None or two numbers, the smaller"),
        ({"clip_range": 1.0}, ValueError, "clip_range must be None or two numbers, .* got 1.0"),
        ({"clip_range": (0, 1, 2)}, ValueError, "clip_range must be None or two numbers, the"),
        (
            {"method": "cw", "clip_range": (-np.inf, np.inf)},
            ValueError,
            r"clip_range must be finite for 'cw', got \(-inf, inf\). Hand in the range of the data",
        ),
        (
            {"method": Boundary(starting_points=X[:, :3])},
            ValueError,
            r"starting_points must hold finite inputs of shape \(12,\), got shape",
        ),
        ({"n_noise": 0}, ValueError, "n_noise must be a positive integer, got 0."),
        ({"n_votes": 0}, ValueError, "n_votes must be a positive integer, got 0."),
        ({"n_restarts": 0}, ValueError, "n_restarts must be a positive integer, got 0."),
        ({"frozen": "no"}, ValueError, "frozen must be True or False, got 'no'."),
        ({"clip_range": (0.4, 0.5)}, ValueError, r"X must lie within clip_range=\(0.4, 0.5\)"),
        ({"clip_range": (1, 0)}, ValueError, r"clip_range must be None or two numbers, the small"),
        ({"noise_seed": -1}, ValueError, "noise_seed must be"),
        ({"y": [0, 7]}, ValueError, "y must hold one label per input, got shape"),
        (
            {"y": [7] * len(X)},
            ValueError,
            r"y must hold labels among classes_, \[0, 1\], got \[7\].",
        ),
        ({"X": X[:, :3]}, ValueError, "X has 3 features|X must hold inputs of shape"),
    ],
)
def test_what_cannot_be_attacked_is_refused(change, kind, message: str) -> None:
    with pytest.raises(kind, match=f"^{message}"):
        attack(**{"clf": CLF, "X": X, "y": Y, "eps": 0.1} | change)


def test_what_is_no_classifier_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^clf must be a fitted SmoothedClassifier or a trained"):
        attack(nn.Linear, X, Y, eps=0.1)


def test_noise_that_is_not_added_has_no_gradients() -> None:
    bits = (X > 0.5).astype(np.float32)
    y = labels(NET, bits)
    clf = smoothed(NET, Flips(0.1))
    with pytest.raises(TypeError, match=r"^method must do without gradients"):
        attack(clf, bits, y, eps=1.0)


def test_every_attack_has_a_name_of_its_own() -> None:
    assert all(re.fullmatch("[a-z]+", name) for name in METHODS)


def test_the_range_of_the_data_holds_them_in_any_precision() -> None:
    wide = X.astype(np.float64) * 1.1
    limits = wide.min(), wide.max()
    found = attack(
        CLF, wide, labels(NET, X), PGD(n_steps=1), eps=0.01, clip_range=limits, n_votes=50
    )
    assert found.success.shape == Y.shape


def test_a_table_with_names_is_attacked_without_a_warning() -> None:
    pd = pytest.importorskip("pandas")
    rows = inputs(200)
    table = pd.DataFrame(rows.astype(np.float64), columns=[f"x{i}" for i in range(12)])
    y = labels(NET, rows)
    for base in (
        LogisticRegression(C=100),
        FrozenEstimator(LogisticRegression(C=100).fit(table, y)),
    ):
        clf = SmoothedClassifier(base, 0.1, n_estimation=100, random_state=0).fit(table, y)
        attack(clf, table[:5], y[:5], Boundary(n_steps=5), n_votes=50)
        robust_accuracy_curve(clf, table[:5], y[:5], {"b": Boundary(n_steps=5)}, [0.1], n_votes=50)


@dataclass(frozen=True)
class Short(AttackMethod):
    """Finds a tenth, or another share, of the way to the plane."""

    share: float = 0.25
    name = "short"
    norms = ("l2",)
    gradients = False
    minimal = True

    def perturb(self, question: Question) -> torch.Tensor:
        w = NET.weight[1] - NET.weight[0]
        lead = question.x @ w + NET.bias[1] - NET.bias[0]
        return (question.x - self.share * (lead / (w @ w))[:, None] * w).detach()


def test_what_a_minimal_attack_finds_too_near_is_looked_for_further_out() -> None:
    exact = distances(NET, X, "l2")
    found = attack(CLF, X, Y, Short(), clip_range=WIDE, n_votes=4000)
    assert found.success.all()
    assert np.median(found.distance / exact) == pytest.approx(1.0, abs=0.1)
    assert not attack(CLF, X, Y, Short(0.05), clip_range=WIDE).success.any()
