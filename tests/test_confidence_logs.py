"""Logs of certified confidence: the published ones, recomputed, and damaged ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from randsmooth.bounds.confidence import mean_confidence_lower
from randsmooth.confidence_logs import (
    ConfidenceLog,
    mean_bound_agreement,
    read_confidence_log,
    recomputed_mean_bound,
)
from randsmooth.exceptions import InvalidFileError

HEADER = "idx\tlabel\tpredict\texp_cdf_00\texp_cdf_25\texp_00\texp_25\tcorrect\ttime"
# 0.9 at radius 0 leads to 0.61121 at radius 0.25 with sigma 0.25.
ROW = "0\t3\t3\t0.9\t0.7\t0.9\t0.611\t1\t0:00:36.5"
ABSTENTION = "20\t3\t-1\t0.0\t0.0\t0.0\t0.0\t0\t2.5"
RANGES = {"score": {"low": 0.0, "high": 1.0}, "margin": {"low": -1.0, "high": 1.0}}


def published(shared, measure):
    folder = shared / "reference" / "published"
    return read_confidence_log(folder / f"kumar2020_cifar10_{measure}_sigma_0.25.tsv")


@pytest.fixture
def written(tmp_path):
    def write(*rows, header=HEADER):
        path = tmp_path / "log.tsv"
        path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        return path

    return write


class TestPublishedLogs:
    # Logs of Kumar et al. 2020: rows marked correct and above the threshold, of all 500.
    @pytest.mark.parametrize(
        ("measure", "threshold", "method", "shares"),
        [
            ("score", 0.5, "cdf", [0.708, 0.542, 0.336, 0.0, 0.0, 0.0]),
            ("score", 0.5, "mean", [0.708, 0.450, 0.230, 0.0, 0.0, 0.0]),
            ("margin", 0.0, "cdf", [0.754, 0.586, 0.356, 0.0, 0.0, 0.0]),
            ("margin", 0.0, "mean", [0.754, 0.476, 0.246, 0.0, 0.0, 0.0]),
            ("score", 0.7, "cdf", [0.556, 0.414, 0.0]),
            ("score", 0.7, "mean", [0.556, 0.336, 0.0]),
        ],
    )
    def test_certified_accuracy_is_that_of_the_published_table(
        self, shared, measure, threshold, method, shares
    ):
        log = published(shared, measure)
        ours = log.certified_accuracy(threshold, method=method)
        assert ours[: len(shares)].round(3).tolist() == shares
        assert log.radii.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
        assert len(log) == 500

    @pytest.mark.parametrize("measure", ["score", "margin"])
    def test_every_mean_bound_follows_from_that_at_radius_0(self, shared, measure):
        log = published(shared, measure)
        agrees = mean_bound_agreement(log, sigma=0.25, **RANGES[measure])
        assert agrees.shape == (500, 7)
        assert agrees.all()
        # The test has teeth: a fourth digit, or a scale that is off by 0.4 %, is found out.
        assert not mean_bound_agreement(log, sigma=0.25, digits=4, **RANGES[measure]).all()
        off = mean_bound_agreement(log, sigma=0.251, **RANGES[measure])
        assert off[:, 0].all()
        assert off[:, 1:].mean() < 0.6

    @pytest.mark.parametrize(("measure", "most"), [("score", 0.994), ("margin", 0.988)])
    def test_no_bound_exceeds_what_its_draws_can_certify(self, shared, measure, most):
        log = published(shared, measure)
        largest = mean_confidence_lower(
            1.0, 100_000, 0.0, sigma=0.25, alpha=0.001, **RANGES[measure]
        )
        assert log.mean_bound.max() == round(float(largest), 3) == most

    @pytest.mark.parametrize(("measure", "n_abstained"), [("score", 93), ("margin", 42)])
    def test_abstentions_are_rows_of_zeros_but_count(self, shared, measure, n_abstained):
        log = published(shared, measure)
        assert log.abstained.sum() == n_abstained
        assert not log.distribution_bound[log.abstained].any()
        assert not log.correct[log.abstained].any()

    def test_the_distribution_gives_at_least_what_the_mean_does(self, shared):
        log = published(shared, "score")
        assert (log.distribution_bound >= log.mean_bound - 1.5e-3).all()

    def test_seconds_and_labels_are_read(self, shared):
        log = published(shared, "score")
        assert log.seconds[0] == pytest.approx(36.422521)
        assert (log.true_label[0], log.label[0], log.label[1]) == (3, 3, -1)


class TestReading:
    def test_columns_are_found_by_their_names(self, written):
        header = HEADER.replace("\tcorrect", "\tmine\tcorrect")
        log = read_confidence_log(written(ROW.replace("\t1\t0:", "\textra\t1\t0:"), header=header))
        assert log.radii.tolist() == [0.0, 0.25]
        assert log.distribution_bound.tolist() == [[0.9, 0.7]]
        assert log.mean_bound.tolist() == [[0.9, 0.611]]
        assert log.correct.tolist() == [True]
        assert log.seconds.tolist() == [36.5]

    def test_labels_that_are_no_plain_integers_stay_text(self, written):
        log = read_confidence_log(written(ROW.replace("\t3", "\tcat"), ABSTENTION))
        assert log.true_label.tolist() == ["cat", "3"]
        assert log.abstained.tolist() == [False, True]

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            (ROW + "\t9", "line 3: the row must have 9 columns, got 10"),
            (ROW[:-10], "line 3: the row must have 9 columns, got 8"),
            (ROW.replace("0\t3", "x\t3"), "line 3: idx must be a number, got 'x'"),
            (ROW.replace("0.7", "y"), "line 3: a bound must be a number, got 'y'"),
            (ROW.replace("0.611", "nan"), "line 3: a bound must be finite, got 'nan'"),
            (ROW.replace("\t1\t", "\tyes\t"), "line 3: correct must be 0 or 1, got 'yes'"),
            (ROW.replace("0:00:36.5", "soon"), "line 3: time must be a number, got 'soon'"),
        ],
    )
    def test_damaged_rows_are_named(self, written, row, message):
        with pytest.raises(InvalidFileError, match=message):
            read_confidence_log(written(ABSTENTION, row))

    @pytest.mark.parametrize(
        "header",
        [
            "idx\tlabel\tpredict\tradius\tcorrect\ttime",
            HEADER.replace("exp_25", "exp_50"),
            HEADER.replace("exp_cdf_25", "other"),
            HEADER.replace("predict", "guess"),
            HEADER.replace("time", "seconds"),
            "",
        ],
    )
    def test_other_layouts_are_refused(self, written, header):
        message = "is not a log of certified confidence: line 1 must name the columns idx, label,"
        with pytest.raises(InvalidFileError, match=message):
            read_confidence_log(written(ROW, header=header))

    def test_missing_empty_and_binary_files_are_refused(self, written, tmp_path):
        with pytest.raises(InvalidFileError, match=r"none\.tsv does not exist\."):
            read_confidence_log(tmp_path / "none.tsv")
        with pytest.raises(InvalidFileError, match="has no rows under its header"):
            read_confidence_log(written())
        (tmp_path / "binary.tsv").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(InvalidFileError, match="must be text in UTF-8, got invalid start byte"):
            read_confidence_log(tmp_path / "binary.tsv")


class TestLog:
    def test_certified_accuracy_is_strict_and_takes_many_thresholds(self, written):
        log = read_confidence_log(written(ROW, ABSTENTION))
        shares = log.certified_accuracy([0.0, 0.7, 0.9])
        assert shares.tolist() == [[0.5, 0.5], [0.5, 0.0], [0.0, 0.0]]
        assert log.certified_accuracy(0.65, method="mean").tolist() == [0.5, 0.0]

    def test_certified_accuracy_refuses_what_it_cannot_answer(self, written):
        log = read_confidence_log(written(ROW))
        with pytest.raises(ValueError, match=r"^method must be 'cdf' or 'mean', got 'best'\.$"):
            log.certified_accuracy(0.5, method="best")
        with pytest.raises(ValueError, match=r"^threshold must be a number, got nan\.$"):
            log.certified_accuracy(np.nan)

    def test_columns_are_frozen_and_match(self, written):
        log = read_confidence_log(written(ROW))
        with pytest.raises(ValueError, match="read-only"):
            log.mean_bound[0, 0] = 1.0
        with pytest.raises(dataclasses.FrozenInstanceError):
            log.radii = np.zeros(2)
        columns = {item.name: getattr(log, item.name) for item in dataclasses.fields(log)}
        message = r"^mean_bound must have .*, shape \(1, 2\), got shape \(1, 1\)\.$"
        with pytest.raises(ValueError, match=message):
            ConfidenceLog(**columns | {"mean_bound": [[0.5]]})
        with pytest.raises(ValueError, match=r"^label must have .* shape \(1,\), got shape \(2,\)"):
            ConfidenceLog(**columns | {"label": [1, 2]})
        with pytest.raises(ValueError, match=r"^radii must be a list of finite numbers of at leas"):
            ConfidenceLog(**columns | {"radii": [-0.25, 0.0]})


class TestRecomputation:
    def test_mean_bound_at_a_radius_follows_from_that_at_0(self):
        mean = np.array([0.99, 0.8, 0.4])
        radii = np.array([0.0, 0.25, 1.5])
        for measure in RANGES.values():
            bound = mean_confidence_lower(mean, 1000, radii, sigma=0.25, alpha=0.001, **measure)
            log = ConfidenceLog(
                index=[0, 1, 2],
                true_label=[1, 1, 1],
                label=[1, 1, 1],
                radii=radii,
                distribution_bound=bound,
                mean_bound=bound,
                correct=[True] * 3,
                seconds=[1.0] * 3,
            )
            ours = recomputed_mean_bound(log, sigma=0.25, **measure)
            np.testing.assert_allclose(ours, bound, rtol=1e-9)
            assert mean_bound_agreement(log, sigma=0.25, digits=8, **measure).all()

    @pytest.mark.parametrize(
        ("at_0", "at_25", "agrees"),
        [
            # 0.8995 leads to 0.61013, 0.9005 to 0.61230.
            ("0.9", "0.61", True),
            ("0.9", "0.613", False),
            ("0.9", "0.609", False),
            ("0.900", "0.612", True),
            # Below 0.1 a third digit is a tenth as wide as above it.
            ("0.4", "0.105", True),
            ("0.4", "0.1", False),
        ],
    )
    def test_agreement_is_within_the_digits_that_were_written(self, written, at_0, at_25, agrees):
        row = f"0\t3\t3\t0.9\t0.7\t{at_0}\t{at_25}\t1\t1.0"
        log = read_confidence_log(written(row))
        assert mean_bound_agreement(log, sigma=0.25).tolist() == [[True, agrees]]

    def test_abstentions_are_zero(self, written):
        wrong = ABSTENTION.replace("\t0.0\t0\t", "\t0.1\t0\t")
        log = read_confidence_log(written(ABSTENTION, wrong))
        assert not recomputed_mean_bound(log, sigma=0.25, low=-1.0).any()
        agrees = mean_bound_agreement(log, sigma=0.25, low=-1.0)
        assert agrees.tolist() == [[True, True], [True, False]]

    def test_bad_settings_are_refused(self, written):
        log = read_confidence_log(written(ROW))
        with pytest.raises(ValueError, match=r"^sigma must be positive and finite, got 0\.$"):
            recomputed_mean_bound(log, sigma=0)
        message = r"^mean_bound must lie in \[0\.0, 0\.5\], got 0\.9\. Declare the range"
        with pytest.raises(ValueError, match=message):
            mean_bound_agreement(log, sigma=0.25, high=0.5)
        with pytest.raises(ValueError, match=r"^low must be below high"):
            recomputed_mean_bound(log, sigma=0.25, low=1.0)
        with pytest.raises(ValueError, match=r"^digits must be at least 1, got 0\.$"):
            mean_bound_agreement(log, sigma=0.25, digits=0)
        without = read_confidence_log(
            written(ROW, header=HEADER.replace("_00", "_75").replace("_25", "_50"))
        )
        message = r"^log must have a bound at radius 0, got radii \[0\.75, 0\.5\]\.$"
        with pytest.raises(ValueError, match=message):
            recomputed_mean_bound(without, sigma=0.25)
