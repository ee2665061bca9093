"""Real pictures on one side, scores of samples on the other.

judge = Judge(real, ("frechet", "kid"))
judge.scores(samples)  # {"frechet": 103.2, "kid": 0.021, "kid_error": 0.001}
judge.scores(others)  # of other real pictures: the floor, what no sample can beat
"""

import functools
from collections.abc import Sequence

import numpy as np

from experiments.scores import fidelity, frechet
from experiments.scores.features import NAME, load_extractor
from experiments.scores.reference import reference

TITLES = {
    "frechet": f"Frechet ({NAME})",
    "kid": f"kernel distance ({NAME})",
    "fid": "FID",
    "isc": "Inception Score",
}
"""What scores are called where they are shown; the first is not FID, and no FID."""
QUOTED = {"frechet": 10_000, "kid": 10_000, "fid": 50_000, "isc": 50_000}
"""How many samples it takes before a number may be quoted."""
_BLOCKS = 10  # of the kernel distance


class Judge:
    """Scores samples against real pictures, by the names of `TITLES`.

    Args:
        real: uint8 (n, h, w, 3), n at least 2.
        names: of the scores.
        weights: path of the weights of torch-fidelity's network.
        download: lets torch-fidelity fetch them.

    Raises:
        ValueError: for an unknown name, pictures that are not such, or scores of
            torch-fidelity without weights; all before anything long is done.
        ImportError: if a package is missing that a score needs.
    """

    def __init__(
        self,
        real: np.ndarray,
        names: Sequence[str],
        *,
        weights: str = "",
        download: bool = False,
    ) -> None:
        for name in names:
            if name not in TITLES:
                raise ValueError(
                    f"scores must be among {tuple(TITLES)}, got {name!r}; leave it out"
                )
        if real.dtype != np.uint8 or real.ndim != 4 or len(real) < 2:
            raise ValueError(
                f"real must be uint8 (n, h, w, 3) with n at least 2, got {real.dtype} "
                f"{real.shape}; take more pictures"
            )
        self.names = tuple(names)
        self._real = real
        self._weights, self._download = weights, download
        if self._asks("frechet", "kid"):
            load_extractor()
        if self._asks("fid", "isc"):
            fidelity.check_weights(weights, download=download)
            fidelity.packages()

    def scores(self, samples: np.ndarray) -> dict[str, float]:
        """Scores of samples, uint8 (m, h, w, 3) with m at least 2.

        Returns:
            By name; ``kid_error`` and ``isc_error`` beside theirs.

        Raises:
            ValueError: if samples are not such, or the kept features of the real
                pictures are damaged.
        """
        out: dict[str, float] = {}
        if self._asks("frechet", "kid"):
            out |= self._of_features(load_extractor()(samples))
        if self._asks("fid", "isc"):
            values = fidelity.inception_scores(
                samples, self._real, weights=self._weights, download=self._download
            )
            asked = [name for name in values if self._asks(name.removesuffix("_error"))]
            out |= {name: values[name] for name in asked}
        return out

    def _of_features(self, features: np.ndarray) -> dict[str, float]:
        out: dict[str, float] = {}
        if self._asks("frechet"):
            own = frechet.moments(features)
            out["frechet"] = frechet.distance(own, self._moments)
        if self._asks("kid"):
            smallest = min(len(features), len(self._features))
            blocks = max(min(_BLOCKS, smallest // 2), 2)
            out["kid"], out["kid_error"] = frechet.kernel_distance(
                features, self._features, blocks=blocks
            )
        return out

    def _asks(self, *names: str) -> bool:
        return not set(names).isdisjoint(self.names)

    @functools.cached_property
    def _features(self) -> np.ndarray:
        return reference(self._real)

    @functools.cached_property
    def _moments(self) -> frechet.Moments:
        return frechet.moments(self._features)
