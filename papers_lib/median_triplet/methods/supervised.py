"""The two ends of Table 1: an encoder trained with labels, and one that is not trained at all."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from papers_lib.errors import PapersError
from papers_lib.median_triplet.methods.base import Batch, Logs, Method, Settings, full_precision
from papers_lib.median_triplet.methods.projector import classifier


class Supervised(Method):
    """Cross-entropy with the labels, the only method that reads them.

    Raises:
        PapersError: no number of classes.
    """

    def __init__(self, settings: Settings, images_total: int, classes: int | None) -> None:
        super().__init__(settings)
        if classes is None:
            raise PapersError("supervised needs the number of classes; give a data set that has labels")
        self.head = classifier(self.dimension, classes)

    def _loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        scores = self.head(self.encoder(batch.views[0]))
        with full_precision(scores):
            return F.cross_entropy(scores.float(), batch.labels.to(scores.device)), {}


class Random(Method):
    """The encoder as it was drawn. It has no loss, and training skips it."""

    def __init__(self, settings: Settings, images_total: int, classes: int | None) -> None:
        super().__init__(settings)

    def trained(self) -> list[nn.Parameter]:
        """Nothing."""
        return []
