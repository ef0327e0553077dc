"""Two stages: the plan, and that a planned certificate errs no more often than it may."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.base import BaseEstimator, clone

from randsmooth.bounds import BOUNDS
from randsmooth.certificates import certify_counts
from randsmooth.intervals import clopper_pearson_lower
from randsmooth.noise import Gaussian, Laplace, Uniform
from randsmooth.two_stage import TwoStage

GAUSSIAN = Gaussian(0.5)


def planned(plan, pilot, chosen=None, *, alpha=0.001, bound="binary", noise=GAUSSIAN):
    pilot = np.asarray(pilot)
    chosen = np.zeros(len(pilot), dtype=int) if chosen is None else chosen
    return plan.n_draws(pilot, chosen, alpha=alpha, bound=bound, noise=noise)


def all_outcomes(n_pilot):
    """Every pair of votes that a pilot on two classes can end with."""
    top = np.arange(n_pilot + 1)
    return np.column_stack([top, n_pilot - top])


class TestPlan:
    def test_pilot_that_is_sure_of_another_class_gets_the_fewest_draws(self):
        pilot = [[0, 1000, 0], [300, 700, 0], [100, 500, 400]]
        assert planned(TwoStage(), pilot).tolist() == [100, 100, 100]

    def test_runner_up_far_behind_earns_draws_below_one_half(self):
        pilot = [[450, 200, 200, 150]]
        assert planned(TwoStage(), pilot, bound="binary").tolist() == [100]
        assert planned(TwoStage(), pilot, bound="auto")[0] > 1000

    def test_chosen_class_need_not_be_the_first(self):
        pilot = np.array([[20, 950, 30], [950, 20, 30]])
        n = planned(TwoStage(), pilot, [1, 0], bound="auto")
        assert n[0] == n[1] > 1000

    @pytest.mark.parametrize("noise", [GAUSSIAN, Laplace(0.5), Uniform(0.5)])
    @pytest.mark.parametrize("bound", ["auto", "binary"])
    @pytest.mark.parametrize("n_max", [60, 1_000, 12_345])
    def test_numbers_stay_within_their_bounds(self, noise, bound, n_max):
        n = planned(TwoStage(n_max, 50, 0.02), all_outcomes(50), bound=bound, noise=noise)
        assert n.dtype == np.int64
        assert n.min() == min(100, n_max)
        assert n.max() <= n_max

    @pytest.mark.parametrize("bound", ["auto", "renyi", "pixeldp"])
    def test_less_loss_takes_no_fewer_draws(self, bound):
        pilot = all_outcomes(40)
        losses = (0.5, 0.1, 0.05, 0.02, 0.01, 0.001)
        n = [planned(TwoStage(20_000, 40, loss), pilot, bound=bound) for loss in losses]
        assert (np.diff(n, axis=0) >= 0).all()
        assert (n[-1] > n[0]).any()

    def test_next_to_no_loss_takes_all_draws_where_there_is_a_radius(self):
        n = planned(TwoStage(10_000, 100, 1e-9), [[100, 0], [90, 10], [0, 100]])
        assert n.tolist() == [10_000, 10_000, 100]

    def test_scale_of_the_noise_does_not_matter(self):
        pilot = all_outcomes(30)
        few, many = (planned(TwoStage(), pilot, noise=Gaussian(s)) for s in (0.01, 100.0))
        np.testing.assert_array_equal(few, many)

    def test_units_of_a_bound_of_ones_own_do_not_matter(self):
        def binary(p_lower, p_upper, *, sigma):
            return 1000 * BOUNDS["binary"].radii["gaussian"](p_lower, p_upper, sigma)

        pilot = all_outcomes(30)
        np.testing.assert_array_equal(
            planned(TwoStage(), pilot, bound=binary), planned(TwoStage(), pilot, bound="auto")
        )

    def test_input_is_planned_alike_whatever_its_company(self):
        rng = np.random.default_rng(0)
        pilot = rng.multinomial(200, [0.6, 0.25, 0.1, 0.05], size=300)
        chosen = rng.integers(0, 4, size=300)
        together = planned(TwoStage(), pilot, chosen, bound="auto")
        order = rng.permutation(300)
        shuffled = planned(TwoStage(), pilot[order], chosen[order], bound="auto")
        np.testing.assert_array_equal(shuffled, together[order])
        for row in (0, 17, 299):
            alone = planned(TwoStage(), pilot[[row]], chosen[[row]], bound="auto")
            assert alone.tolist() == [together[row]]

    def test_there_are_few_different_numbers_for_the_engine_to_stop_at(self):
        n = planned(TwoStage(), all_outcomes(1000))
        assert np.unique(n).size <= 31
        assert all(number == float(f"{number:.2g}") for number in n.tolist())

    def test_inputs_without_votes_get_the_fewest_draws(self):
        assert planned(TwoStage(), [[0, 0], [1000, 0]]).tolist()[0] == 100

    def test_no_inputs_are_no_numbers(self):
        assert planned(TwoStage(), np.zeros((0, 3), dtype=int)).shape == (0,)

    def test_draws_that_can_certify_nothing_are_kept_few(self):
        assert planned(TwoStage(9, 5), [[5, 0]], alpha=1e-4).tolist() == [9]

    def test_dear_draws_are_bought_only_where_the_radius_is_worth_them(self):
        """Near ties are given up, unanimous votes are followed up, clear ones lie in between."""
        tie, clear, unanimous = planned(TwoStage(), [[500, 500], [900, 100], [1000, 0]])
        assert tie == 100
        assert 5_000 < clear < unanimous < 100_000

    @pytest.mark.parametrize(("bound", "top"), [("binary", 0.9), ("auto", 0.9), ("auto", 0.45)])
    def test_number_is_the_best_buy_where_the_pilot_leaves_nothing_open(self, bound, top):
        """A huge pilot knows the votes to come, so that real certificates give the answer."""
        shares = np.array([top, *np.multiply(1 - top, [0.15, 0.15, 0.14, 0.14, 0.14, 0.14, 0.14])])
        pilot = (1e12 * shares).astype(int) - 10
        plan = TwoStage(10_000, 9_999, 0.02)
        n = planned(plan, [pilot], bound=bound)[0]
        numbers = np.array([1000, 1300, 1600, 2000, 2500, 3200, 4000, 5000, 6300, 7900, 10_000])
        assert n in numbers
        votes = np.rint(shares * numbers[:, np.newaxis]).astype(int)
        votes[:, -1] += numbers - votes.sum(axis=1)
        selection = np.tile([1, 0, 0, 0, 0, 0, 0, 0], (len(numbers), 1))
        record = certify_counts(selection, votes, noise=GAUSSIAN, bound=bound)
        largest = certify_counts([[1, 0]], [[10_000, 0]], noise=GAUSSIAN, bound=bound).radius[0]
        unit = max(record.radius[-1], largest / 2)
        worth = record.radius - 2.5 * 0.02 * unit * numbers / 10_000
        assert worth[numbers == n] == pytest.approx(worth.max(), abs=5e-4)
        assert worth.max() - worth.min() > 0.01


class TestSoundness:
    """Where p is the boundary value, every certificate beyond it is false."""

    ALPHA = 0.1

    @staticmethod
    def fewest_false(n, alpha, p):
        """Return the fewest votes of n whose lower bound exceeds p."""
        above = clopper_pearson_lower(np.arange(n + 1), n, alpha=alpha) > p
        return int(above.argmax()) if above.any() else n + 1

    def chance_of_a_false_certificate(self, plan, p):
        """Return it by enumeration of the pilot and of the draws after it."""
        pilot = all_outcomes(plan.n_pilot)
        n = planned(plan, pilot, alpha=self.ALPHA)
        weight = binom.pmf(pilot[:, 0], plan.n_pilot, p)
        fewest = np.array([self.fewest_false(number, self.ALPHA, p) for number in n])
        return float(weight @ binom.sf(fewest - 1, n, p))

    @pytest.mark.parametrize("p", [0.5, 0.55, 0.7, 0.9, 0.97])
    @pytest.mark.parametrize(
        "plan", [TwoStage(200, 20, 0.02), TwoStage(1_000, 50, 0.1), TwoStage(2_000, 100, 0.05)]
    )
    def test_false_certificates_are_at_most_alpha(self, plan, p):
        chance = self.chance_of_a_false_certificate(plan, p)
        assert 0.5 * self.ALPHA < chance <= self.ALPHA

    @pytest.mark.parametrize("p", [0.5, 0.8])
    def test_simulated_certificates_are_false_at_most_alpha_of_the_time(self, p):
        n_runs, plan, rng = 20_000, TwoStage(1_000, 50, 0.05), np.random.default_rng(0)
        top = rng.binomial(plan.n_pilot, p, size=n_runs)
        n = planned(plan, np.column_stack([top, plan.n_pilot - top]), alpha=self.ALPHA)
        hits = rng.binomial(n, p)
        record = certify_counts(
            np.tile([1, 0], (n_runs, 1)),
            np.column_stack([hits, n - hits]),
            noise=GAUSSIAN,
            bound="binary",
            alpha=self.ALPHA,
        )
        assert np.unique(n).size > 1
        np.testing.assert_array_equal(record.n_draws, n)
        share = np.mean(record.p_lower > p)
        error = np.sqrt(self.ALPHA * (1 - self.ALPHA) / n_runs)
        assert 0.5 * self.ALPHA < share < self.ALPHA + 4 * error

    def test_pilot_that_chose_the_class_must_not_be_counted(self):
        """At a tie no class may be certified; counting the pilot does so too often."""
        plan = TwoStage(200, 50, 0.02)
        pilot = all_outcomes(plan.n_pilot)
        chosen = pilot.argmax(axis=1)
        n = planned(plan, pilot, chosen, alpha=self.ALPHA)
        weight = binom.pmf(pilot[:, 0], plan.n_pilot, 0.5)
        ahead = pilot.max(axis=1)
        fresh = np.array([self.fewest_false(number, self.ALPHA, 0.5) for number in n])
        reused = np.array(
            [self.fewest_false(number, self.ALPHA, 0.5) for number in n + plan.n_pilot]
        )
        assert weight @ binom.sf(fresh - 1, n, 0.5) <= self.ALPHA
        assert weight @ binom.sf(reused - ahead - 1, n, 0.5) > 1.2 * self.ALPHA


class Holder(BaseEstimator):
    """Takes a plan as a parameter."""

    def __init__(self, n_estimation=None):
        self.n_estimation = n_estimation


class TestObject:
    def test_it_says_what_it_is(self):
        assert repr(TwoStage()) == "TwoStage(n_max=100000, n_pilot=1000, loss=0.02)"

    def test_equal_parameters_make_equal_plans(self):
        plan = TwoStage(np.int64(5_000), np.int32(50), np.float32(0.5))
        assert plan == TwoStage(5_000, 50, 0.5) != TwoStage()
        assert len({plan, TwoStage(5_000, 50, 0.5)}) == 1
        assert repr(plan) == "TwoStage(n_max=5000, n_pilot=50, loss=0.5)"

    def test_it_cannot_change(self):
        with pytest.raises(FrozenInstanceError):
            TwoStage().loss = 0.5

    @pytest.mark.parametrize(
        "copied",
        [
            copy.deepcopy,
            lambda plan: clone(Holder(plan)).n_estimation,
            lambda plan: pickle.loads(pickle.dumps(plan)),
        ],
    )
    def test_copies_are_equal(self, copied):
        plan = TwoStage(5_000, 50, 0.1)
        assert copied(plan) == plan

    @pytest.mark.parametrize("name", ["n_max", "n_pilot"])
    @pytest.mark.parametrize("value", [0, -1, 2.5, 100.0, "100", None, True])
    def test_numbers_of_draws_must_be_positive_integers(self, name, value):
        with pytest.raises(ValueError, match=rf"{name} must be a positive integer, got {value!r}"):
            TwoStage(**{name: value})

    @pytest.mark.parametrize("n_max", [500, 1000])
    def test_pilot_must_be_smaller_than_the_most_draws(self, n_max):
        message = (
            rf"n_pilot must be smaller than n_max={n_max}, got 1000\. "
            rf"For so few draws a fixed number is better: n_estimation={n_max}\."
        )
        with pytest.raises(ValueError, match=message):
            TwoStage(n_max=n_max)

    @pytest.mark.parametrize("loss", [0, 1, -0.1, 1.5, float("nan"), "0.1", None, True])
    def test_loss_must_be_a_share(self, loss):
        with pytest.raises(ValueError, match=rf"loss must lie strictly.*0 and 1, got {loss!r}"):
            TwoStage(loss=loss)


class TestArguments:
    @pytest.mark.parametrize("pilot", [[10, 0], [[10], [9]], 5])
    def test_votes_must_form_a_table(self, pilot):
        with pytest.raises(ValueError, match=r"pilot_counts must have shape .* at least 2 classes"):
            planned(TwoStage(), pilot, [0])

    def test_votes_must_not_be_negative(self):
        with pytest.raises(ValueError, match="pilot_counts must be non-negative, got -1"):
            planned(TwoStage(), [[-1, 5]])

    def test_votes_must_be_whole(self):
        with pytest.raises(ValueError, match=r"pilot_counts must be integers, got 0\.5"):
            planned(TwoStage(), [[0.5, 5]])

    def test_votes_must_be_numbers(self):
        with pytest.raises(TypeError, match="pilot_counts must be integers"):
            planned(TwoStage(), [["a", "b"]])

    def test_chosen_must_be_one_for_each_input(self):
        with pytest.raises(ValueError, match=r"chosen must have one entry per input, shape \(1,\)"):
            planned(TwoStage(), [[5, 0]], [0, 0])

    @pytest.mark.parametrize("chosen", [-1, 2])
    def test_chosen_must_be_a_class(self, chosen):
        with pytest.raises(ValueError, match=f"chosen must lie between 0 and 1, got {chosen}"):
            planned(TwoStage(), [[5, 0]], [chosen])

    def test_alpha_must_be_a_probability(self):
        with pytest.raises(ValueError, match=r"alpha must lie strictly between 0 and 1, got 1\.5"):
            planned(TwoStage(), [[5, 0]], alpha=1.5)

    def test_bound_must_be_known(self):
        with pytest.raises(ValueError, match=r"bound must be one of .* got 'tight'"):
            planned(TwoStage(), [[5, 0]], bound="tight")

    def test_bound_must_be_a_name_or_a_function(self):
        with pytest.raises(TypeError, match="bound must be a name or a function, got 3"):
            planned(TwoStage(), [[5, 0]], bound=3)

    def test_bound_of_ones_own_must_return_a_radius_for_each_input(self):
        with pytest.raises(ValueError, match="bound must return one radius per input"):
            planned(TwoStage(), [[5, 0]], bound=lambda p_lower, p_upper, *, sigma: 1.0)
