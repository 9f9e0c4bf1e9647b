"""Does k-means find the classes? NMI and AMI, with the spread over k-means seeds.

The seed of k-means moves NMI by points, so that one value decides nothing; and NMI of random labels
is far from 0 when there are many clusters (.14 at 8,131 samples and 98 clusters), where AMI's is 0.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from papers_lib import arrays
from papers_lib.arrays import Array
from papers_lib.compute import exact
from papers_lib.errors import PapersError


@dataclass(frozen=True)
class Clustering:
    """NMI (arithmetic mean of the entropies) and AMI, by k-means seed and together.

    The sd is the sample's, over seeds; with one seed it is 0.
    """

    seeds: tuple[int, ...]
    nmi: tuple[float, ...]
    ami: tuple[float, ...]

    @property
    def nmi_mean(self) -> float:
        """Mean NMI over the seeds, a fraction."""
        return statistics.fmean(self.nmi)

    @property
    def nmi_sd(self) -> float:
        """Standard deviation of NMI over the seeds."""
        return _sd(self.nmi)

    @property
    def ami_mean(self) -> float:
        """Mean AMI over the seeds, a fraction."""
        return statistics.fmean(self.ami)

    @property
    def ami_sd(self) -> float:
        """Standard deviation of AMI over the seeds."""
        return _sd(self.ami)


@exact()
def nmi(features: Array, labels: Array, seeds: Iterable[int] = range(10), k: int | None = None) -> Clustering:
    """Cluster by k-means (scikit-learn, k-means++, one start per seed, float32) and compare with labels.

    One seed gives the same clusters however many threads there are: scikit-learn adds up its
    centres in the order in which threads finish, so that it is held to one.

    Args:
        features: [N, d] float, on any device.
        labels: [N] integers.
        seeds: of k-means, one clustering each.
        k: number of clusters (default: the number of classes).

    Raises:
        PapersError: what is no matrix of finite features with an integer label per row, no seed, or k
            outside 1…N.
    """
    # Imported here, as scikit-learn takes a second to load.
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    points = arrays.features("features", features, wide=False)
    names = arrays.integers("labels", labels, len(points))
    seeds = tuple(arrays.wholes("a k-means seed", seeds, 0))
    k = len(names.unique()) if k is None else arrays.whole("k", k)
    if not seeds:
        raise PapersError("no k-means seed given; NMI needs one or more")
    if k > len(names):
        raise PapersError(f"k is {k} with {len(names)} samples; it must lie between 1 and N")
    x, y = points.cpu().numpy(), names.cpu().numpy()  # [N, d], [N]
    clusterings = []
    with warnings.catch_warnings(), threadpool_limits(limits=1, user_api="openmp"):
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer points than clusters: the score says so
        for seed in seeds:
            clusterings.append(KMeans(k, n_init=1, random_state=seed).fit(x).labels_)
    return Clustering(
        seeds,
        # NMI = 2 I(y; c) / (H(y) + H(c)); AMI takes off what chance would share.
        tuple(float(normalized_mutual_info_score(y, clusters)) for clusters in clusterings),
        tuple(float(adjusted_mutual_info_score(y, clusters)) for clusters in clusterings),
    )


def _sd(values: tuple[float, ...]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0
