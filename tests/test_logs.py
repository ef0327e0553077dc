"""Logs: the published ones, our own, damaged and impossible ones."""

from __future__ import annotations

import math
import re
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from randsmooth.certificates import certify_counts
from randsmooth.exceptions import InvalidFileError
from randsmooth.logs import CertificationLog, check_log, read_log

HEADER = "idx\tlabel\tpredict\tradius\tcorrect\ttime"
RUN = {"n": 100_000, "alpha": 0.001, "sigma": 0.25}


def published(shared, sigma):
    return shared / "reference" / "published" / f"cohen2019_cifar10_resnet110_sigma_{sigma}.tsv"


@pytest.fixture
def written(tmp_path):
    def write(*rows, header=HEADER):
        path = tmp_path / "log.tsv"
        path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def record():
    return certify_counts(
        [[9, 1, 0], [4, 6, 0], [0, 0, 5]],
        [[9900, 60, 40], [4000, 3500, 2500], [0, 100, 9900]],
        sigma=0.5,
        classes=["ant", "bee", "fly"],
        seconds=[0.5, 0.25, 0.125],
    )


class TestPublishedLogs:
    # Recomputed from the published logs; the published table rounds them to two decimals.
    @pytest.mark.parametrize(
        ("sigma", "shares"),
        [
            ("0.12", [0.814, 0.586, 0.0, 0.0, 0.0, 0.0, 0.0]),
            ("0.25", [0.748, 0.600, 0.428, 0.266, 0.0, 0.0, 0.0]),
            ("0.50", [0.652, 0.546, 0.414, 0.320, 0.234, 0.152, 0.094]),
        ],
    )
    def test_certified_accuracy_is_that_of_the_published_table(self, shared, sigma, shares):
        log = read_log(published(shared, sigma))
        assert len(log) == 500
        ours = log.certified_accuracy(np.arange(7) / 4)
        np.testing.assert_allclose(ours, shares, rtol=0, atol=1e-12)
        table = (published(shared, sigma).parent / "cohen2019_cifar10_table.md").read_text()
        (row,) = [line for line in table.splitlines() if f"sigma; = {sigma}" in line]
        cells = [float(cell) for cell in re.findall(r"\d\.\d\d(?= *\||<b>\*)", row)]
        assert ours[1:].round(2).tolist() == cells

    @pytest.mark.parametrize(
        ("sigma", "alpha", "cap"),
        [("0.25", 0.001, "0.952864"), ("0.50", 0.001, "1.90573")],
    )
    def test_radii_that_stricter_alpha_excludes_are_found(self, shared, sigma, alpha, cap):
        (finding,) = check_log(published(shared, sigma), n=100_000, alpha=alpha, sigma=float(sigma))
        assert f"radius is above {cap}, the largest possible with n=100000" in finding

    @pytest.mark.parametrize(
        ("sigma", "alpha"), [("0.12", 0.001), ("0.12", 0.01), ("0.25", 0.01), ("0.50", 0.01)]
    )
    def test_published_log_is_possible_at_its_true_alpha(self, shared, sigma, alpha):
        path = published(shared, sigma)
        assert check_log(path, n=100_000, alpha=alpha, sigma=float(sigma)) == []

    def test_log_of_another_kind_is_refused(self, shared):
        path = shared / "reference" / "published" / "kumar2020_cifar10_score_sigma_0.25.tsv"
        with pytest.raises(InvalidFileError, match="is not a certification log: line 1 must name"):
            read_log(path)

    def test_times_are_read_in_both_notations(self, shared):
        assert read_log(published(shared, "0.12")).seconds[0] == 13.736080
        assert read_log(published(shared, "0.25")).seconds[0] == 15.4


class TestReading:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("15.4", 15.4),
            ("0:00:14.2", 14.2),
            ("1:02:03", 3723.0),
            ("2 days, 0:00:01", 172801.0),
            ("1 day, 1:00:00.5", 90000.5),
        ],
    )
    def test_time_is_in_seconds(self, written, text, seconds):
        assert read_log(written(f"0\t1\t1\t0.5\t1\t{text}")).seconds.tolist() == [seconds]

    def test_further_columns_are_passed_over(self, written):
        path = written("0\t1\t1\t0.5\t1\t2.0\textra", header=HEADER + "\tmine")
        assert read_log(path).radius.tolist() == [0.5]

    def test_labels_that_are_no_plain_integers_stay_text(self, written):
        log = read_log(written("0\t01\t1\t0.5\t0\t2.0"))
        assert log.true_label.tolist() == ["01"]
        assert log.label.tolist() == ["1"]

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ("20\t1\t1\t0.5\t1", "line 3: the row must have 6 columns, got 5"),
            ("20\t1\t1\t0.5\t1\t2.0\t9", "line 3: the row must have 6 columns, got 7"),
            ("x\t1\t1\t0.5\t1\t2.0", "line 3: idx must be a number, got 'x'"),
            ("20\t1\t1\tfar\t1\t2.0", "line 3: radius must be a number, got 'far'"),
            ("20\t1\t1\t0.5\tyes\t2.0", "line 3: correct must be 0 or 1, got 'yes'"),
            ("20\t1\t1\t0.5\t1\tlong", "line 3: time must be a number, got 'long'"),
            ("20\t1\t1\t0.5\t1\t-1", "line 3: time must be at least 0 and finite, got '-1'"),
            ("20\tNA\t1\t0.5\tNA\t2.0", r"written without true labels\. Write it anew with to_tsv"),
            ("", "line 3: the row must have 6 columns, got 1"),
        ],
    )
    def test_broken_row_is_named_by_its_line(self, written, row, message):
        with pytest.raises(InvalidFileError, match=message):
            read_log(written("0\t1\t1\t0.5\t1\t2.0", row))

    def test_missing_file_is_said_to_be_missing(self, tmp_path):
        with pytest.raises(InvalidFileError, match=r"none\.tsv does not exist"):
            read_log(tmp_path / "none.tsv")

    def test_header_alone_is_refused(self, written):
        with pytest.raises(InvalidFileError, match="has no rows under its header"):
            read_log(written())

    def test_bytes_that_are_no_text_are_refused(self, tmp_path):
        (tmp_path / "log.tsv").write_bytes(HEADER.encode() + b"\n\xff\xfe")
        with pytest.raises(InvalidFileError, match="must be text in UTF-8"):
            read_log(tmp_path / "log.tsv")

    def test_columns_of_a_log_must_match(self):
        with pytest.raises(ValueError, match=r"radius must have one entry per row, shape \(2,\)"):
            CertificationLog([0, 1], [1, 1], [1, 1], [0.5], [True, True], [0.0, 0.0])

    def test_log_counts_rows_marked_as_right_up_to_their_radius(self):
        log = CertificationLog(
            [0, 1, 2], [1, 1, 1], [1, 1, -1], [0.5, 0.2, 0.0], [1, 1, 0], [0] * 3
        )
        assert log.certified_accuracy([0, 0.2, 0.3]).round(3).tolist() == [0.667, 0.667, 0.333]


class TestWriting:
    def test_file_has_the_columns_of_the_field_first(self, tmp_path, record):
        record.to_tsv(tmp_path / "log.tsv", ["ant", "bee", "bee"], index=[0, 20, 40])
        lines = (tmp_path / "log.tsv").read_text().splitlines()
        assert lines[0] == HEADER + (
            "\tp_lower\tp_upper\tabstained\tn_draws\ttop_count\trunner_up_count"
        )
        first, second, third = (line.split("\t") for line in lines[1:])
        assert first[:3] + first[4:6] == ["0", "ant", "ant", "1", "0.500000"]
        assert first[8:] == ["0", "10000", "9900", "60"]
        assert second[:6] == ["20", "bee", "-1", "0.0", "0", "0.250000"]
        assert second[8:] == ["1", "10000", "3500", "4000"]
        assert third[1:3] == ["bee", "fly"]
        assert third[4] == "0"

    def test_our_log_reads_back_and_is_possible(self, tmp_path, record):
        record.to_tsv(tmp_path / "log.tsv", ["ant", "bee", "bee"], index=[0, 20, 40])
        log = read_log(tmp_path / "log.tsv")
        assert log.true_label.tolist() == ["ant", "bee", "bee"]
        assert log.label.tolist() == ["ant", "-1", "fly"]
        assert log.correct.tolist() == [True, False, False]
        np.testing.assert_allclose(log.radius, record.radius, rtol=1e-5)
        assert (log.radius <= record.radius).all()
        assert check_log(tmp_path / "log.tsv", n=10_000, alpha=0.001, sigma=0.5) == []

    @settings(max_examples=40)
    @given(st.integers(500, 1000), st.floats(1e-3, 1e3))
    def test_printed_numbers_are_rounded_outward(self, tmp_path_factory, wins, sigma):
        path = tmp_path_factory.mktemp("logs") / "log.tsv"
        record = certify_counts([[9, 1]], [[wins, 1000 - wins]], sigma=sigma)
        record.to_tsv(path, [0])
        cells = path.read_text().splitlines()[1].split("\t")
        assert Decimal(cells[3]) <= Decimal(record.radius[0])
        assert Decimal(cells[6]) <= Decimal(record.p_lower[0])
        assert Decimal(cells[7]) >= Decimal(record.p_upper[0])
        assert read_log(path).radius[0] == pytest.approx(record.radius[0], rel=1e-5)

    def test_infinite_radius_is_written(self, tmp_path):
        record = certify_counts(
            [[9, 1]], [[90, 10]], sigma=1.0, bound=lambda p, q, *, sigma: np.full(p.shape, np.inf)
        )
        record.to_tsv(tmp_path / "log.tsv", [0])
        assert read_log(tmp_path / "log.tsv").radius[0] == np.inf

    def test_without_true_labels_they_are_marked_missing(self, tmp_path, record):
        record.to_tsv(tmp_path / "log.tsv")
        lines = (tmp_path / "log.tsv").read_text().splitlines()
        assert [line.split("\t")[1] for line in lines[1:]] == ["NA"] * 3
        assert [line.split("\t")[4] for line in lines[1:]] == ["NA"] * 3
        with pytest.raises(InvalidFileError, match="line 2: the log was written without true"):
            read_log(tmp_path / "log.tsv")

    def test_unseen_true_label_is_not_cut_to_the_width_of_the_classes(self, tmp_path, record):
        record.to_tsv(tmp_path / "log.tsv", ["anteater", "bee", "fly"])
        log = read_log(tmp_path / "log.tsv")
        assert log.true_label[0] == "anteater"
        assert log.correct.tolist() == [False, False, True]

    def test_integers_and_floats_that_agree_are_written_alike(self, tmp_path):
        record = certify_counts([[1, 9]], [[10, 9990]], sigma=0.5, classes=[0.0, 1.0])
        record.to_tsv(tmp_path / "log.tsv", [1])
        assert check_log(tmp_path / "log.tsv", n=10_000, alpha=0.001, sigma=0.5) == []

    @pytest.mark.parametrize(
        ("y", "index", "message"),
        [
            (["ant"], None, r"y must have one entry per row, shape \(3,\), got shape \(1,\)"),
            (None, [0, 1], r"index must have one entry per row, shape \(3,\), got shape \(2,\)"),
            (["ant\tbee"] * 3, None, "labels must not hold a tab or a line break"),
        ],
    )
    def test_what_no_log_can_hold_is_refused(self, tmp_path, record, y, index, message):
        with pytest.raises(ValueError, match=message):
            record.to_tsv(tmp_path / "log.tsv", y, index=index)
        assert list(tmp_path.iterdir()) == []

    def test_true_labels_of_another_kind_are_refused(self, tmp_path, record):
        with pytest.raises(TypeError, match="must be labels of the same kind"):
            record.to_tsv(tmp_path / "log.tsv", [0, 1, 2])

    def test_index_that_is_not_whole_is_refused(self, tmp_path, record):
        with pytest.raises(TypeError, match="index must hold integers, got dtype float64"):
            record.to_tsv(tmp_path / "log.tsv", index=[0.0, 1.0, 2.0])


class TestChecking:
    def findings(self, path):
        return check_log(path, **RUN)

    def test_radius_at_the_cap_may_be_rounded_up_to_three_digits(self, written):
        # 0.25 * ndtri(0.001 ** 1e-5) = 0.952864...
        assert self.findings(written("0\t1\t1\t0.953\t1\t1.0")) == []
        assert self.findings(written("0\t1\t1\t0.952864\t1\t1.0")) == []

    @pytest.mark.parametrize("radius", ["0.954", "0.9530", "0.95287", "1.0"])
    def test_radius_above_the_cap_is_found(self, written, radius):
        explained_by_rounding = radius == "0.9530"  # the same number as 0.953
        found = self.findings(written(f"7\t1\t1\t{radius}\t1\t1.0"))
        assert bool(found) is not explained_by_rounding
        assert all("in 1 rows" in line and "idx 7" in line for line in found)

    @pytest.mark.parametrize("radius", ["-0.1", "nan", "inf", "-inf"])
    def test_radius_that_is_no_length_is_found(self, written, radius):
        (finding,) = self.findings(written(f"0\t1\t1\t{radius}\t1\t1.0"))
        assert "radius is negative or not finite in 1 rows: idx 0" in finding

    def test_gap_in_the_index_is_found(self, written):
        numbers = [0, 20, 40, 80, 100, 160, 180]
        (finding,) = self.findings(written(*(f"{i}\t1\t1\t0.5\t1\t1.0" for i in numbers)))
        assert finding == "3 rows of step 20 are missing: idx 60, idx 120, idx 140."

    def test_irregular_index_is_not_called_incomplete(self, written):
        numbers = [3, 5, 11, 12, 40]
        assert self.findings(written(*(f"{i}\t1\t1\t0.5\t1\t1.0" for i in numbers))) == []

    def test_order_of_the_rows_does_not_matter(self, written):
        numbers = [40, 0, 20, 60]
        assert self.findings(written(*(f"{i}\t1\t1\t0.5\t1\t1.0" for i in numbers))) == []

    def test_double_row_is_found(self, written):
        numbers = [0, 1, 1, 2, 3]
        (finding,) = self.findings(written(*(f"{i}\t1\t1\t0.5\t1\t1.0" for i in numbers)))
        assert finding == "idx occurs more than once: idx 1."

    def test_long_lists_are_cut_short(self, written):
        rows = (f"{i}\t1\t1\t9.0\t1\t1.0" for i in range(10))
        (finding,) = self.findings(written(*rows))
        assert finding.endswith("idx 0, idx 1, idx 2 and 7 more.")

    @pytest.mark.parametrize("row", ["0\t1\t-1\t0.5\t0\t1.0", "0\t1\t-1\t0.0\t1\t1.0"])
    @pytest.mark.parametrize("name", ["1", "ant"])
    def test_abstention_that_certifies_is_found(self, written, row, name):
        (finding,) = self.findings(written(row.replace("\t1\t-1", f"\t{name}\t-1")))
        assert "an abstention has a radius or is marked correct in 1 rows: idx 0" in finding

    def test_class_minus_one_is_no_abstention(self, written):
        assert self.findings(written("0\t-1\t-1\t0.5\t1\t1.0", "1\t-1\t1\t0.5\t0\t1.0")) == []

    @pytest.mark.parametrize("row", ["0\t1\t2\t0.5\t1\t1.0", "0\t1\t1\t0.5\t0\t1.0"])
    def test_flag_that_contradicts_the_labels_is_found(self, written, row):
        (finding,) = self.findings(written(row))
        assert finding == "correct contradicts label and predict in 1 rows: idx 0."

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"n": 0}, "n must be at least 1, got 0"),
            ({"alpha": 1.0}, "alpha must lie strictly between 0 and 1, got 1.0"),
            ({"sigma": 0.0}, "sigma must be positive and finite, got 0.0"),
            ({"sigma": math.inf}, "sigma must be positive and finite, got inf"),
        ],
    )
    def test_settings_out_of_range_are_refused(self, written, change, message):
        with pytest.raises(ValueError, match=message):
            check_log(written("0\t1\t1\t0.5\t1\t1.0"), **(RUN | change))

    @given(st.integers(100, 10_000), st.sampled_from([1e-4, 0.001, 0.01, 0.05]))
    @settings(max_examples=25)
    def test_unanimous_rows_of_ours_are_never_called_impossible(self, tmp_path_factory, n, alpha):
        path = tmp_path_factory.mktemp("logs") / "log.tsv"
        for bound in ("binary", "auto"):
            certify_counts([[9, 1]], [[n, 0]], sigma=0.3, alpha=alpha, bound=bound).to_tsv(
                path, [0]
            )
            assert check_log(path, n=n, alpha=alpha, sigma=0.3) == []
