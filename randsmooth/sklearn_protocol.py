"""What scikit-learn asks of a classifier around another: routing of parameters, and tags."""

from __future__ import annotations

from typing import Any

from sklearn.linear_model import LogisticRegression
from sklearn.utils import Tags, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping

from randsmooth.fitting import unwrap

__all__ = ["ScikitLearnProtocol"]


class ScikitLearnProtocol:
    """Methods of `SmoothedClassifier` that only scikit-learn calls."""

    estimator: Any

    def get_metadata_routing(self) -> MetadataRouter:
        """Return how parameters of `fit` reach the base.

        Returns
        -------
        MetadataRouter
            The routing.
        """
        estimator, _ = unwrap(self.estimator)
        if not hasattr(estimator, "get_metadata_routing") or isinstance(estimator, type):
            estimator = LogisticRegression()
        mapping = MethodMapping().add(caller="fit", callee="fit")
        router = MetadataRouter(owner=self).add_self_request(self)
        return router.add(estimator=estimator, method_mapping=mapping)

    def __sklearn_tags__(self) -> Tags:
        """Return the tags: dense finite inputs of any shape."""
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        estimator, _ = unwrap(self.estimator)
        if hasattr(estimator, "__sklearn_tags__") and not isinstance(estimator, type):
            inner = get_tags(estimator)
            if inner.classifier_tags is not None:
                tags.classifier_tags.poor_score = inner.classifier_tags.poor_score
        tags.input_tags.sparse = False
        tags.input_tags.allow_nan = False
        tags.input_tags.three_d_array = True
        return tags
