"""The record of a run: what it certifies, what it refuses, and what survives a file."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import pickle
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from randsmooth.bounds import BOUNDS, renyi_radius
from randsmooth.bounds.box import box_uniform_radius
from randsmooth.certificates import Certificates, certify_counts
from randsmooth.exceptions import InvalidFileError
from randsmooth.noise import Gaussian, Laplace, Uniform

PER_ROW = (
    "label",
    "radius",
    "abstained",
    "p_lower",
    "p_upper",
    "selection_counts",
    "counts",
    "n_draws",
    "seconds",
)


def binary_record(top, n, **facts):
    """One row for each count of the first of two classes."""
    top = np.atleast_1d(top)
    facts = {"sigma": 1.0, "bound": "binary"} | facts
    return certify_counts(np.tile([9, 1], (len(top), 1)), np.c_[top, n - top], **facts)


def assert_same(one, other):
    for name in (*PER_ROW, "classes"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for name in ("noise", "bound", "alpha", "noise_seed", "versions"):
        assert getattr(one, name) == getattr(other, name), name


@pytest.fixture
def record():
    return certify_counts(
        [[9, 1, 0], [4, 6, 0], [0, 0, 5], [3, 3, 3]],
        [[990, 6, 4], [400, 350, 250], [0, 10, 990], [0, 0, 0]],
        sigma=0.5,
        bound="binary",
        classes=["ant", "bee", "fly"],
        noise_seed=7,
        seconds=[0.5, 0.25, 0.125, 0.0],
    )


class TestCertifiedRadius:
    def test_unanimous_votes_give_the_radius_of_the_closed_form(self):
        # Clopper-Pearson for n of n is alpha ** (1 / n).
        record = binary_record([100], 100, sigma=0.5)
        exact = 0.5 * ndtri(0.001 ** (1 / 100))
        assert record.radius[0] == pytest.approx(exact, rel=1e-9)
        assert record.p_lower[0] == pytest.approx(0.001**0.01, rel=1e-12)

    @pytest.mark.parametrize(
        ("n", "smallest"), [(100, 66), (1000, 550), (10_000, 5156), (100_000, 50_490)]
    )
    def test_smallest_certifiable_count_is_the_known_one(self, n, smallest):
        # Derived from P(Bin(n, 1/2) >= k) <= 0.001.
        record = binary_record([smallest - 1, smallest], n)
        assert record.abstained.tolist() == [True, False]
        assert record.radius[0] == 0 < record.radius[1]

    def test_laplace_radius_is_that_of_teng(self):
        record = binary_record([100], 100, noise="laplace", sigma=2.0)
        exact = -2 * math.log(2 * -math.expm1(math.log(0.001) / 100))
        assert record.radius[0] == pytest.approx(exact, rel=1e-9)
        assert record.noise == Laplace(2.0)

    @pytest.mark.parametrize("bound", ["binary", "auto", "renyi"])
    @pytest.mark.parametrize("p", [0.3, 0.55, 0.8, 0.97])
    def test_radius_exceeds_the_true_one_with_probability_at_most_alpha(self, bound, p):
        # A linear classifier on the line: the true radius is sigma * ndtri(p). All outcomes.
        n, alpha = 40, 0.05
        wins = np.arange(n + 1)
        record = binary_record(wins, n, alpha=alpha, bound=bound)
        false_claim = record.radius > max(float(ndtri(p)), 0.0)
        assert binom.pmf(wins, n, p)[false_claim].sum() <= alpha
        claims = ~record.abstained & (p <= 0.5)
        assert binom.pmf(wins, n, p)[claims].sum() <= alpha

    def test_class_is_chosen_by_the_selection_votes_alone(self):
        record = certify_counts([[1, 9]], [[99, 1]], sigma=1.0)
        assert record.label.tolist() == [1]
        assert record.abstained.tolist() == [True]

    def test_ties_in_the_selection_go_to_the_first_class(self):
        record = certify_counts([[2, 5, 5], [0, 0, 0]], [[0, 9, 0]] * 2, sigma=1.0)
        assert record.label.tolist() == [1, 0]

    def test_row_without_estimation_votes_abstains(self, record):
        assert record.abstained.tolist() == [False, True, False, True]
        assert (record.p_lower[3], record.p_upper[3], record.radius[3]) == (0, 1, 0)

    def test_runner_up_certifies_more_where_the_rest_is_spread(self):
        votes = [[600, *[40] * 10]]
        binary = certify_counts([[9, *[0] * 10]], votes, sigma=1.0, bound="binary")
        auto = certify_counts([[9, *[0] * 10]], votes, sigma=1.0)
        assert auto.radius[0] > binary.radius[0]
        assert auto.p_upper[0] < 1 - auto.p_lower[0]

    def test_no_rows_make_an_empty_record(self):
        assert len(certify_counts(np.zeros((0, 2), int), np.zeros((0, 2), int), sigma=1.0)) == 0

    def test_wide_noise_scales_the_radius(self):
        assert binary_record([90], 100, sigma=3.0).radius[0] == pytest.approx(
            3 * binary_record([90], 100).radius[0], rel=1e-12
        )


class TestBounds:
    @pytest.mark.parametrize("noise", ["gaussian", "laplace", "uniform"])
    def test_automatic_bound_is_recorded_by_its_name(self, noise):
        record = certify_counts([[9, 1]], [[90, 10]], noise=noise, sigma=1.0)
        assert record.bound in BOUNDS
        assert noise in BOUNDS[record.bound].radii

    def test_function_is_called_with_the_runner_up_statistics(self):
        given = {}

        def my_bound(p_lower, p_upper, *, sigma):
            given.update(p_lower=p_lower, p_upper=p_upper, sigma=sigma)
            return np.full(p_lower.shape, np.inf)

        record = certify_counts([[9, 1], [9, 1]], [[90, 10], [50, 50]], sigma=2.0, bound=my_bound)
        named = certify_counts([[9, 1]], [[90, 10]], sigma=2.0, bound="neyman_pearson")
        assert given["sigma"] == 2.0
        np.testing.assert_array_equal(given["p_lower"], named.p_lower)
        np.testing.assert_array_equal(given["p_upper"], named.p_upper)
        assert record.radius.tolist() == [np.inf, 0]
        assert record.bound.endswith("my_bound")

    def test_published_function_can_be_passed_itself(self):
        by_name = certify_counts([[9, 1]], [[90, 10]], sigma=2.0, bound="renyi")
        by_function = by_name.with_bound(renyi_radius)
        assert by_function.bound.endswith("renyi_radius")
        np.testing.assert_array_equal(by_function.radius, by_name.radius)

    def test_callable_object_is_recorded_by_its_class(self):
        class Flat:
            def __call__(self, p_lower, p_upper, *, sigma):
                return 0 * p_lower

        assert binary_record([90], 100, bound=Flat()).bound.endswith("Flat")

    @pytest.mark.parametrize(
        ("returned", "message"),
        [
            (1.0, r"one radius per input, shape \(1,\), got shape \(\)"),
            ([1.0, 2.0], r"got shape \(2,\)"),
            ([-1.0], "at least 0, got -1.0"),
            ([math.nan], "at least 0, got nan"),
        ],
    )
    def test_function_with_impossible_radii_is_refused(self, returned, message):
        with pytest.raises(ValueError, match=message):
            binary_record([90], 100, bound=lambda *_, sigma: returned)

    def test_unknown_bound_is_refused_with_the_known_ones(self):
        with pytest.raises(ValueError, match=r"bound must be one of 'auto', .*got 'tightest'"):
            binary_record([90], 100, bound="tightest")

    def test_bound_of_another_noise_is_refused(self):
        with pytest.raises(ValueError, match=r"bound must be one for uniform noise, got 'renyi'"):
            binary_record([90], 100, bound="renyi", noise="uniform")

    def test_bound_of_another_type_is_refused(self):
        with pytest.raises(TypeError, match=r"bound must be a name or a function, got 3\."):
            binary_record([90], 100, bound=3)


class TestArguments:
    @pytest.mark.parametrize(
        ("selection", "counts", "message"),
        [
            ([1, 2], [[1, 2]], r"selection_counts must have shape \(n_rows, n_classes\)"),
            ([[1]], [[1]], "at least 2 classes"),
            ([[1, 2]], [[1.0, 2.0]], "counts must hold integers, got dtype float64"),
            ([[1, 2]], [[-1, 2]], "counts must not be negative, got -1"),
            ([[1, 2]], [[1, 2], [3, 4]], r"same shape, got \(1, 2\) and \(2, 2\)"),
        ],
    )
    def test_what_is_no_table_of_votes_is_refused(self, selection, counts, message):
        with pytest.raises(ValueError, match=message):
            certify_counts(selection, counts, sigma=1.0)

    def test_one_table_for_both_purposes_is_refused(self):
        votes = np.array([[90, 10]])
        with pytest.raises(ValueError, match="must come from separate draws"):
            certify_counts(votes, votes, sigma=1.0)

    @pytest.mark.parametrize("alpha", [0, 1, -0.1, math.nan])
    def test_alpha_outside_the_open_interval_is_refused(self, alpha):
        with pytest.raises(ValueError, match="alpha must lie strictly between 0 and 1"):
            binary_record([90], 100, alpha=alpha)

    @pytest.mark.parametrize("classes", [["a"], ["a", "a"], [["a", "b"]]])
    def test_classes_that_do_not_fit_are_refused(self, classes):
        with pytest.raises(ValueError, match="classes must be 2 different labels"):
            binary_record([90], 100, classes=classes)

    def test_noise_by_name_needs_its_scale(self):
        with pytest.raises(ValueError, match="sigma must be given"):
            certify_counts([[9, 1]], [[90, 10]])

    def test_noise_object_brings_its_own_scale(self):
        assert certify_counts([[9, 1]], [[90, 10]], noise=Gaussian(0.1)).noise.scale == 0.1

    def test_versions_are_those_now_imported(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch", type("torch", (), {"__version__": "9.9"}))
        versions = binary_record([90], 100).versions
        assert versions["numpy"] == np.__version__
        assert versions["torch"] == "9.9"
        monkeypatch.delitem(sys.modules, "torch")
        assert set(binary_record([90], 100).versions) == {"randsmooth", "numpy", "scipy"}


class TestInvariants:
    @pytest.mark.parametrize(
        ("field", "value", "message"),
        [
            ("label", ["bee", "bee", "fly", "ant"], "label must be the class with the most"),
            ("radius", [1.0, 1.0, 1.0, 0.0], "0 where abstained, got otherwise in row 1"),
            ("radius", [-1.0, 0.0, 1.0, 0.0], "radius must be at least 0"),
            ("radius", [math.nan, 0.0, 1.0, 0.0], "radius must be at least 0"),
            ("radius", [1.0], r"radius must have one entry per row of counts, shape \(4,\)"),
            ("abstained", [True] * 4, "abstained must be where p_lower is not above p_upper"),
            ("p_lower", [1.5, 0.0, 0.9, 0.0], "p_lower must lie between 0 and 1"),
            ("p_upper", [math.nan, 1.0, 0.1, 1.0], "p_upper must lie between 0 and 1"),
            ("n_draws", [1, 2, 3, 4], "n_draws must be the sum of the counts"),
            ("seconds", [math.inf, 0, 0, 0], "seconds must be finite and at least 0"),
            ("bound", "auto", "bound must name the bound that was used, got 'auto'"),
            ("alpha", 0.0, "alpha must lie strictly"),
            ("classes", ["ant", "bee"], "classes must be 3 different labels"),
        ],
    )
    def test_record_that_contradicts_itself_is_refused(self, record, field, value, message):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(record, **{field: value})

    @pytest.mark.parametrize(
        ("field", "value", "message"),
        [
            ("noise", "gaussian", "noise must be a randsmooth.noise.Noise, got 'gaussian'"),
            ("bound", renyi_radius, "bound must be the name of a bound"),
            ("noise_seed", "7", "noise_seed must be an integer or None, got '7'"),
        ],
    )
    def test_facts_of_the_wrong_type_are_refused(self, record, field, value, message):
        with pytest.raises(TypeError, match=message):
            dataclasses.replace(record, **{field: value})

    @pytest.mark.parametrize("name", [*PER_ROW, "classes"])
    def test_arrays_cannot_be_written_to(self, record, name):
        with pytest.raises(ValueError, match="read-only"):
            getattr(record, name)[0] = 0

    def test_fields_cannot_be_replaced(self, record):
        with pytest.raises(dataclasses.FrozenInstanceError):
            record.alpha = 0.5

    def test_record_does_not_follow_the_arrays_it_was_made_of(self):
        votes = np.array([[90, 10]])
        record = certify_counts([[9, 1]], votes, sigma=1.0)
        votes[0] = 0
        assert record.counts.tolist() == [[90, 10]]

    def test_copy_by_pickle_is_the_same(self, record):
        assert_same(pickle.loads(pickle.dumps(record)), record)


class TestDerivedRecords:
    def test_another_bound_is_as_if_it_had_been_asked_first(self, record):
        direct = certify_counts(
            record.selection_counts,
            record.counts,
            sigma=0.5,
            bound="renyi",
            classes=record.classes,
            noise_seed=7,
            seconds=record.seconds,
        )
        assert_same(record.with_bound("renyi"), direct)
        assert_same(direct.with_bound("binary"), record)

    def test_larger_alpha_certifies_at_least_as_much(self, record):
        bolder = record.with_alpha(0.1)
        assert bolder.alpha == 0.1
        assert bolder.bound == "binary"
        assert (bolder.radius >= record.radius).all()
        assert bolder.radius[0] > record.radius[0]
        assert_same(bolder.with_alpha(0.001), record)

    def test_own_bound_must_be_given_again_for_another_alpha(self, record):
        own = record.with_bound(renyi_radius)
        with pytest.raises(ValueError, match="bound must be given to with_alpha"):
            own.with_alpha(0.01)
        again = own.with_alpha(0.01, bound=renyi_radius)
        np.testing.assert_array_equal(
            again.radius, record.with_bound("renyi").with_alpha(0.01).radius
        )

    @pytest.mark.parametrize(
        ("rows", "kept"),
        [
            ([2, 0], [2, 0]),
            (slice(1, 3), [1, 2]),
            ([True, False, False, True], [0, 3]),
            (-1, [3]),
        ],
    )
    def test_some_rows_make_a_record_of_their_own(self, record, rows, kept):
        part = record.take(rows)
        for name in PER_ROW:
            np.testing.assert_array_equal(getattr(part, name), getattr(record, name)[kept])
        assert part.noise_seed == 7

    def test_abstention_is_wrong_even_at_radius_zero(self, record):
        shares = record.certified_accuracy(["ant", "bee", "bee", "ant"], [0, 0.5, 99])
        assert shares.tolist() == [0.25, 0.25, 0]

    def test_length_and_text_are_short_and_telling(self, record):
        assert len(record) == 4
        assert repr(record) == (
            "Certificates(n_inputs=4, n_abstained=2, bound='binary', norm='l2', alpha=0.001)"
        )

    def test_votes_of_the_runner_up_leave_out_the_chosen_class(self, record):
        top, runner_up = record.leading_counts()
        assert top.tolist() == [990, 350, 990, 0]
        assert runner_up.tolist() == [6, 400, 10, 0]


class TestFrame:
    def test_frame_has_a_row_per_input_and_the_facts_of_the_run(self, record):
        frame = record.to_frame()
        assert frame["label"].tolist() == ["ant", "bee", "fly", "ant"]
        assert frame["radius"].tolist() == record.radius.tolist()
        assert frame["top_count"].tolist() == [990, 350, 990, 0]
        assert frame.attrs["bound"] == "binary"

    def test_missing_pandas_is_named_with_the_extra(self, record, monkeypatch):
        monkeypatch.setitem(sys.modules, "pandas", None)
        with pytest.raises(ImportError, match=r"pip install 'randsmooth\[tables\]'"):
            record.to_frame()


label_lists = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=4, unique=True),
    st.lists(st.floats(allow_nan=False), min_size=2, max_size=4, unique=True),
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
        min_size=2,
        max_size=4,
        unique=True,
    ),
    st.just([False, True]),
)


def small_record(classes, **facts):
    rng = np.random.default_rng(0)
    votes = rng.integers(0, 50, size=(2, 3, len(classes)))
    return certify_counts(votes[0], votes[1], **{"sigma": 0.1, "classes": classes} | facts)


def rewritten(path, **changes):
    """Replace members of an archive, or entries of its header."""
    with np.load(path) as archive:
        members = dict(archive)
    header = json.loads(members["header"].tobytes())
    header |= {name: value for name, value in changes.items() if name not in members}
    members |= {name: value for name, value in changes.items() if name in members}
    members["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez(path, **members)


class TestFiles:
    @settings(max_examples=40)
    @given(label_lists, st.sampled_from([Gaussian, Laplace, Uniform]), st.floats(1e-6, 1e6))
    def test_saved_record_comes_back_exactly(self, tmp_path_factory, classes, noise, sigma):
        path = tmp_path_factory.mktemp("saved") / "record.npz"
        record = small_record(classes, noise=noise(sigma), noise_seed=2**63 - 1)
        record.save(path)
        loaded = Certificates.load(path)
        assert_same(loaded, record)
        assert loaded.label.dtype == record.label.dtype

    def test_strings_kept_as_objects_come_back_in_value(self, tmp_path):
        record = small_record(np.array(["ant", "honey bee"], dtype=object))
        record.save(tmp_path / "record.npz")
        loaded = Certificates.load(tmp_path / "record.npz")
        assert loaded.classes.tolist() == ["ant", "honey bee"]
        assert loaded.label.tolist() == record.label.tolist()

    @pytest.mark.parametrize("classes", [[None, "a"], ["a\0", "b"]])
    def test_classes_that_no_plain_array_holds_are_refused(self, tmp_path, classes):
        record = small_record(np.array(classes, dtype=object))
        with pytest.raises(TypeError, match="classes must be numbers or strings to be saved"):
            record.save(tmp_path / "record.npz")
        assert list(tmp_path.iterdir()) == []

    def test_noise_of_your_own_is_refused(self, tmp_path):
        @dataclasses.dataclass(frozen=True)
        class Mine(Gaussian):
            name: ClassVar[str] = "gaussian"

        with pytest.raises(ValueError, match=r"noise must be one of 'gaussian', .* to be saved"):
            small_record([0, 1], noise=Mine(1.0)).save(tmp_path / "record.npz")

    def test_failed_write_leaves_the_old_file_alone(self, tmp_path, monkeypatch, record):
        path = tmp_path / "record.npz"
        record.save(path)

        def broken(file, **arrays):
            file.write(b"half a")
            raise OSError("disk full")

        monkeypatch.setattr(np, "savez_compressed", broken)
        with pytest.raises(OSError, match="disk full"):
            record.with_alpha(0.1).save(path)
        assert list(tmp_path.iterdir()) == [path]
        assert_same(Certificates.load(path), record)

    def test_missing_file_is_said_to_be_missing(self, tmp_path):
        with pytest.raises(InvalidFileError, match=r"nowhere\.npz does not exist"):
            Certificates.load(tmp_path / "nowhere.npz")

    def test_folder_is_left_to_the_operating_system(self, tmp_path):
        with pytest.raises(IsADirectoryError):
            Certificates.load(tmp_path)

    def test_file_cut_anywhere_is_refused(self, tmp_path, record):
        path = tmp_path / "record.npz"
        record.save(path)
        whole = path.read_bytes()
        for length in range(0, len(whole), 29):
            path.write_bytes(whole[:length])
            with pytest.raises(InvalidFileError, match="is damaged, or not a file"):
                Certificates.load(path)

    @pytest.mark.filterwarnings("ignore")
    def test_changed_byte_never_changes_a_number_unnoticed(self, tmp_path, record):
        path = tmp_path / "record.npz"
        record.save(path)
        whole = path.read_bytes()
        for place in range(0, len(whole), 7):
            damaged = bytearray(whole)
            damaged[place] ^= 0x15
            path.write_bytes(damaged)
            try:
                loaded = Certificates.load(path)
            except InvalidFileError:
                continue
            assert_same(loaded, record)

    @pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04"])
    def test_foreign_file_is_refused(self, tmp_path, content):
        path = tmp_path / "record.npz"
        path.write_bytes(content)
        with pytest.raises(InvalidFileError, match=r"not a file that Certificates\.save wrote"):
            Certificates.load(path)

    def test_single_array_and_foreign_archive_are_refused(self, tmp_path):
        np.save(tmp_path / "array.npy", np.arange(3))
        np.savez(tmp_path / "archive.npz", counts=np.arange(3))
        for path in tmp_path.iterdir():
            with pytest.raises(InvalidFileError, match=r"not a file that Certificates\.save wrote"):
                Certificates.load(path)

    def test_pickled_content_is_never_opened(self, tmp_path, record):
        path = tmp_path / "record.npz"
        record.save(path)
        rewritten(path, counts=np.array([[print, 1]], dtype=object))
        with pytest.raises(InvalidFileError, match="allow_pickle=False"):
            Certificates.load(path)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"format": "other"}, "holds 'other', not a randsmooth.Certificates"),
            ({"format_version": 2}, "has format version 2, but this randsmooth reads version 1"),
            ({"radius": np.full(4, np.nan)}, "radius must be at least 0"),
            ({"alpha": 2.0}, "alpha must lie strictly between 0 and 1"),
            ({"noise": "salt"}, "noise must be one of"),
        ],
    )
    def test_edited_file_is_refused(self, tmp_path, record, changes, message):
        path = tmp_path / "record.npz"
        record.save(path)
        rewritten(path, **changes)
        with pytest.raises(InvalidFileError, match=message):
            Certificates.load(path)

    def test_file_is_a_plain_archive(self, tmp_path, record):
        path = Path(tmp_path, "any name")
        record.save(path)
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            np.testing.assert_array_equal(archive["counts"], record.counts)


def test_linear_classifier_is_certified_up_to_its_margin():
    # f(x) = [x > 0], x = 0.3, sigma = 1: p = Phi(0.3) and the exact robust radius is 0.3.
    n = 100_000
    votes = round(n * ndtr(0.3))
    radius = binary_record([votes], n).radius[0]
    assert 0.28 < radius < 0.3


class TestBox:
    def test_radius_in_a_box_is_that_of_the_probabilities(self):
        X = np.array([[0.0, 0.2, 0.4], [0.5, 0.5, 0.5]])
        votes = [[9_990, 10], [5_000, 5_000]]
        record = certify_counts([[99, 1], [50, 50]], votes, noise="uniform", sigma=2.0)
        found = record.radius_in_box(X)
        expected = box_uniform_radius(record.p_lower, record.p_upper, half_width=2.0, X=X)
        assert found[0] == expected[0] > record.radius[0]
        assert found[1] == 0

    def test_it_is_refused_for_other_noise_rows_and_inputs_outside(self):
        record = certify_counts([[9, 1]], [[990, 10]], sigma=0.5)
        with pytest.raises(ValueError, match=r"^noise must be uniform or splitting noise"):
            record.radius_in_box([[0.5]])
        record = certify_counts([[9, 1]], [[990, 10]], noise="uniform", sigma=0.5)
        with pytest.raises(ValueError, match=r"^X must have one row per row of the record, 1, got"):
            record.radius_in_box([[0.5], [0.1]])
        with pytest.raises(ValueError, match=r"^X must"):
            record.radius_in_box([[1.5]])
