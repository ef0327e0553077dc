"""What a record of certificates is turned into outside: tables, logs and archives."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import ArrayLike

from randsmooth.certificates.archive import read_archive, write_archive
from randsmooth.certificates.tsv import write_tsv

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RecordFiles"]


class RecordFiles:
    """Methods of `Certificates` that write the record down and read it back."""

    def to_frame(self) -> pd.DataFrame:
        """Return the record as a pandas DataFrame, one row per input.

        Returns
        -------
        pandas.DataFrame
            Columns ``label``, ``radius``, ``abstained``, ``p_lower``, ``p_upper``, ``n_draws``,
            ``top_count``, ``runner_up_count`` and ``seconds``. The facts of the run are in
            ``attrs``.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "to_frame needs pandas, which is not installed: pip install 'randsmooth[tables]'."
            ) from error
        record: Any = self
        top, runner_up = record.leading_counts()
        frame = pd.DataFrame(
            {
                "label": record.label,
                "radius": record.radius,
                "abstained": record.abstained,
                "p_lower": record.p_lower,
                "p_upper": record.p_upper,
                "n_draws": record.n_draws,
                "top_count": top,
                "runner_up_count": runner_up,
                "seconds": record.seconds,
            }
        )
        frame.attrs |= record.facts
        return frame

    def to_tsv(
        self,
        path: str | os.PathLike[str],
        y: ArrayLike | None = None,
        *,
        index: ArrayLike | None = None,
    ) -> None:
        """Write the log of the run in the layout that published logs share.

        The columns are ``idx``, ``label`` (the true one), ``predict`` (-1 where abstained),
        ``radius``, ``correct`` and ``time`` in seconds; then ``p_lower``, ``p_upper``,
        ``abstained``, ``n_draws``, ``top_count`` and ``runner_up_count``. Numbers are rounded
        outward, so that no printed radius is above the certified one.
        `randsmooth.logs.read_log` reads the file back.

        Parameters
        ----------
        path : str or path-like
            The file to write.

        y : array-like of shape (n_rows,) or None, default=None
            True labels. Without them ``label`` and ``correct`` are written as ``NA``.

        index : array-like of int, shape (n_rows,), or None, default=None
            Numbers of the inputs in their data set, 0, 1, 2, ... by default.
        """
        record: Any = self
        write_tsv(record, path, y, index=index)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the whole record to one file, without pickle.

        The file is a NumPy archive of the arrays with a JSON header. It appears whole or not at
        all, and `load` gives back every number exactly.

        Parameters
        ----------
        path : str or path-like
            The file to write; the customary ending is ``.npz``.

        Raises
        ------
        ValueError
            If the noise is not one of `randsmooth.noise.NOISES`.

        TypeError
            If `classes` are Python objects other than strings.
        """
        record: Any = self
        write_archive(record, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a record that `save` wrote.

        Parameters
        ----------
        path : str or path-like
            The file to read.

        Returns
        -------
        Certificates
            The record.

        Raises
        ------
        InvalidFileError
            If the file is missing, cut short, corrupted, or something else.
        """
        return read_archive(path, cls)
