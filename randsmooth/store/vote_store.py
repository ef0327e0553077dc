"""A certification run on disk, read while it grows or long after."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds import BOUNDS
from randsmooth.certificates import Certificates, certify_counts
from randsmooth.certificates.from_counts import imported_versions, resolved_bound
from randsmooth.certificates.from_outcomes import certify_outcomes
from randsmooth.certificates.from_sequence import certify_claims
from randsmooth.certificates.rules import (
    asked_radii,
    check_alpha,
    class_labels,
    vote_counts,
)
from randsmooth.exceptions import InvalidFileError
from randsmooth.noise import Noise, noise_from_name
from randsmooth.store.database import (
    connected_for_reading,
    contradictions_named,
    damage_named,
)
from randsmooth.store.header import check_draws, header_of, labels_in, noise_in, read_header
from randsmooth.store.packing import unpacked
from randsmooth.store.seals import run_key, sealed_rows
from randsmooth.store.votes import BlockVotes
from randsmooth.store.writer import write_counts

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["VoteStore"]

_UNCHANGEABLE = {
    "outcomes": "tried every outcome of its noise: its radii are exact",
    "sequential": "stopped as soon as its radii were decided: its votes are no fixed sample",
}


class VoteStore:
    """The votes of a certification run in a file that only ever grows.

    ``SmoothedClassifier.certificates(X, store=path)`` writes it, and goes on with it where it was
    interrupted. The file is an SQLite database: readers see whole blocks of inputs, at any time.
    From its votes every bound and failure probability can be evaluated without the model.

    Parameters
    ----------
    path : str or path-like
        The file.

    Attributes
    ----------
    header : dict of str to object
        The facts of the run: what identifies the model and the inputs, noise, seed, draws, classes
        and versions of packages.

    n_inputs : int or None
        How many inputs the run is about, None where that was not known when it began.

    Raises
    ------
    InvalidFileError
        If the file is missing, damaged, or something else.

    Examples
    --------
    >>> import tempfile, os
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from randsmooth import SmoothedClassifier, VoteStore
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = SmoothedClassifier(LogisticRegression(max_iter=2000), sigma=4, n_estimation=1000)
    >>> clf = clf.set_params(random_state=0).fit(X, y)
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = os.path.join(folder.name, "run.sqlite")
    >>> record = clf.certificates(X[:20], store=path)
    >>> with VoteStore(path) as store:
    ...     print(len(store), store.certificates(bound="binary").bound)
    20 binary
    >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._connection = connected_for_reading(self.path)
        try:
            with damage_named(self.path):
                self.header = read_header(self._connection)
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __len__(self) -> int:
        with damage_named(self.path):
            (number,) = self._connection.execute("SELECT count(*) FROM votes").fetchone()
        return int(number)

    def __repr__(self) -> str:
        of = "" if self.n_inputs is None else f" of {self.n_inputs}"
        return f"VoteStore({os.fspath(self.path)!r}: {len(self)}{of} inputs)"

    @property
    def n_inputs(self) -> int | None:
        """How many inputs the run is about, None where that was not known when it began."""
        number = (self.header["inputs"] or {}).get("n_inputs")
        return number if isinstance(number, int) else None

    @property
    def classes(self) -> NDArray[Any]:
        """Class labels, in the order of the columns of the counts."""
        return labels_in(self.header)

    @property
    def inputs(self) -> NDArray[np.int64]:
        """Numbers of the inputs that are there, rising: the rows of `certificates`."""
        with damage_named(self.path):
            rows = self._connection.execute("SELECT input FROM votes ORDER BY input")
            return np.array([number for (number,) in rows], dtype=np.int64)

    @property
    def failed(self) -> dict[int, str]:
        """What went wrong with inputs that could not be classified, by their numbers."""
        query = "SELECT input, error FROM votes WHERE error IS NOT NULL ORDER BY input"
        with damage_named(self.path):
            return {int(number): str(error) for number, error in self._connection.execute(query)}

    def votes(self) -> tuple[NDArray[np.int64], BlockVotes]:
        """Return the numbers of the inputs that are there, and their votes.

        Returns
        -------
        inputs : ndarray of int64, shape (n_rows,)
            The numbers, rising.

        votes : BlockVotes
            Selection and estimation counts, claims and times, row by row.
        """
        rows = self._rows()
        return rows.inputs, rows.votes

    def certificates(
        self,
        *,
        bound: str | Callable[..., ArrayLike] | None = None,
        alpha: float | None = None,
    ) -> Certificates:
        """Return the record of the inputs that are there, without a model.

        Each record spends the whole of its `alpha` by itself: choose bound and level first, not the
        better of two for each row.

        Parameters
        ----------
        bound : str, callable or None, default=None
            As in `certify_counts`; None is that of the run.

        alpha : float or None, default=None
            Failure probability of each row; None is that of the run.

        Returns
        -------
        Certificates
            One row per input, in the order of `inputs`. Those that failed abstain without draws.

        Raises
        ------
        ValueError
            If the run asked about radii, or tried every outcome of its noise: its votes are no
            sample of a fixed size, and `bound` and `alpha` stay as they are.

        InvalidFileError
            If the file is damaged.
        """
        return self._recorded(self._rows(), bound, alpha)

    def to_frame(self, **how: Any) -> pd.DataFrame:
        """Return the record as a pandas DataFrame, indexed by the numbers of the inputs.

        Parameters
        ----------
        **how : dict
            `bound` and `alpha`, as for `certificates`.

        Returns
        -------
        pandas.DataFrame
            As `Certificates.to_frame`, with a column ``error``: None, or what went wrong.
        """
        rows = self._rows()
        frame = self._recorded(rows, **how).to_frame()
        frame = frame.set_axis(rows.inputs).rename_axis("input")
        frame["error"] = list(rows.errors)
        return frame

    def to_parquet(self, path: str | os.PathLike[str], **how: Any) -> None:
        """Write the record to a Parquet file.

        Parameters
        ----------
        path : str or path-like
            The file to write.

        **how : dict
            `bound` and `alpha`, as for `certificates`.
        """
        self.to_frame(**how).to_parquet(path)

    def to_tsv(self, path: str | os.PathLike[str], y: ArrayLike | None = None, **how: Any) -> None:
        """Write the log of the run in the layout that published logs share.

        Parameters
        ----------
        path : str or path-like
            The file to write.

        y : array-like of shape (n_rows,) or None, default=None
            True labels of `inputs`.

        **how : dict
            `bound` and `alpha`, as for `certificates`.
        """
        rows = self._rows()
        self._recorded(rows, **how).to_tsv(path, y, index=rows.inputs)

    @classmethod
    def from_counts(
        cls,
        path: str | os.PathLike[str],
        selection_counts: ArrayLike,
        counts: ArrayLike,
        *,
        noise: str | Noise = "gaussian",
        sigma: float | None = None,
        alpha: float = 0.001,
        bound: str = "auto",
        classes: ArrayLike | None = None,
        noise_seed: int | None = None,
        seconds: ArrayLike | None = None,
        index: ArrayLike | None = None,
        versions: dict[str, str] | None = None,
    ) -> Self:
        """Make a store of counts that were made elsewhere.

        Parameters
        ----------
        path : str or path-like
            A new file.

        selection_counts, counts : array-like of int, shape (n_rows, n_classes)
            Votes of separate draws, as for `certify_counts`.

        noise : str or Noise, default="gaussian"
            The noise that was added.

        sigma : float or None, default=None
            Scale of a noise given by name.

        alpha : float, default=0.001
            Failure probability of each row, unless another is asked for.

        bound : str, default="auto"
            Name of the bound, unless another is asked for.

        classes : array-like of shape (n_classes,) or None, default=None
            Class labels, 0, 1, 2, ... by default.

        noise_seed : int or None, default=None
            Seed of the noise, for the record.

        seconds : array-like of float, shape (n_rows,), or None, default=None
            Time of each row.

        index : array-like of int, shape (n_rows,), or None, default=None
            Numbers of the inputs, 0, 1, 2, ... by default.

        versions : dict of str to str or None, default=None
            Versions of the packages that drew the votes, those now imported by default.

        Returns
        -------
        VoteStore
            The store, open for reading.

        Raises
        ------
        ValueError
            If the counts are not whole votes, the file exists, or a parameter is out of range.
        """
        if Path(path).exists():
            raise ValueError(f"path must be a new file, got {os.fspath(path)!r}, which exists.")
        selection, votes = vote_counts(selection_counts, counts)
        n_rows, n_classes = votes.shape
        known = noise_from_name(noise, sigma)
        check_alpha(alpha)
        numbers = np.arange(n_rows) if index is None else np.asarray(index)
        if numbers.shape != (n_rows,) or len(np.unique(numbers)) != n_rows or (numbers < 0).any():
            raise ValueError(
                f"index must hold one number of at least 0 per row, all different, got {index!r}."
            )
        header = header_of(
            noise=known,
            classes=class_labels(np.arange(n_classes) if classes is None else classes, n_classes),
            draws={"rule": "imported"},
            alpha=alpha,
            bound=resolved_bound(bound, known)[0],
            noise_seed=noise_seed,
            versions=imported_versions() if versions is None else versions,
        )
        spent = np.zeros(n_rows) if seconds is None else np.asarray(seconds, dtype=float)
        block = BlockVotes(selection, votes, np.zeros(n_rows, dtype=np.int64), spent)
        write_counts(path, header, numbers, block)
        return cls(path)

    def _recorded(
        self,
        rows: _Rows,
        bound: str | Callable[..., ArrayLike] | None = None,
        alpha: float | None = None,
    ) -> Certificates:
        header, draws = self.header, self.header["draws"]
        facts = {
            "classes": self.classes,
            "noise": noise_in(header),
            "noise_seed": header["noise_seed"],
            "seconds": rows.votes.seconds,
            "execution": header["execution"],
        }
        if draws["rule"] in _UNCHANGEABLE:
            self._check_unchanged(bound, alpha)
            with damage_named(self.path), contradictions_named():
                if draws["rule"] == "outcomes":
                    asked = None if draws["radii"] is None else asked_radii(draws["radii"])
                    return certify_outcomes(rows.votes.counts, radii=asked, **facts)
                return certify_claims(
                    rows.votes.selection,
                    rows.votes.counts,
                    rows.votes.claimed,
                    radii=asked_radii(draws["radii"]),
                    p0=np.array(draws["p0"], dtype=float),
                    bound=header["bound"],
                    alpha=header["alpha"],
                    **facts,
                )
        if bound is None and header["bound"] not in BOUNDS:
            raise ValueError(
                f"bound must be given again where it is a function of your own, got None for "
                f"{header['bound']!r}."
            )
        return certify_counts(
            rows.votes.selection,
            rows.votes.counts,
            alpha=header["alpha"] if alpha is None else alpha,
            bound=header["bound"] if bound is None else bound,
            versions=header["versions"],
            **facts,
        )

    def _check_unchanged(self, bound: object, alpha: float | None) -> None:
        if bound not in (None, self.header["bound"]) or alpha not in (None, self.header["alpha"]):
            why = _UNCHANGEABLE[self.header["draws"]["rule"]]
            raise ValueError(
                f"bound and alpha must stay as they are, {self.header['bound']!r} and "
                f"{self.header['alpha']}, for a run that {why}; got {bound!r} and {alpha!r}."
            )

    def _rows(self) -> _Rows:
        """Return what is there at one moment, whoever goes on writing."""
        with damage_named(self.path), contradictions_named():
            found = sealed_rows(self._connection, run_key(self.header))
            columns = list(zip(*found, strict=True)) or [()] * 7
            numbers, _, selection, estimation, claimed, seconds, errors = columns
            votes = BlockVotes(
                unpacked(selection, len(self.classes)),
                unpacked(estimation, len(self.classes)),
                np.array(claimed, dtype=np.int64),
                np.array(seconds, dtype=np.float64),
            )
            failed = np.array([error is not None for error in errors], dtype=bool)
            check_draws(self.header["draws"], votes, failed)
            n_radii = len(self.header["draws"].get("radii") or ())
            if not ((votes.claimed >= 0) & (votes.claimed <= n_radii)).all():
                raise InvalidFileError("claims radii that were never asked about.")
            if not (np.isfinite(votes.seconds) & (votes.seconds >= 0)).all():
                raise InvalidFileError("holds times that are none.")
            texts = tuple(None if error is None else str(error) for error in errors)
            return _Rows(np.array(numbers, dtype=np.int64), votes, texts)


@dataclass(frozen=True)
class _Rows:
    """What a store holds at one moment, column by column."""

    inputs: NDArray[np.int64]
    votes: BlockVotes
    errors: tuple[str | None, ...]
