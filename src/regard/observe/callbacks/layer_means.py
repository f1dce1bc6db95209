"""The mean over heads of each layer's statistics, for logs that hold one number a name."""

from regard.observe.moments import Moments

__all__ = ["LayerMeans"]


class LayerMeans:
    """Recorder that keeps the last step of each layer and statistic until it is asked for.

    A layer whose statistics are looked at every tenth step gives its last look, once.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[str, tuple[str, ...]], tuple[int, Moments]] = {}

    def add(self, step: int, layer: str, statistics: tuple[str, ...], moments: Moments) -> None:
        """Take the summary of one call; calls of the same step are merged."""
        before = self._last.get((layer, statistics))
        if before is not None and before[0] == step:
            moments = before[1].merge(moments)
        self._last[layer, statistics] = (step, moments)

    def flush(self) -> None:
        """Do nothing: there is no file."""

    def close(self) -> None:
        """Do nothing: there is no file."""

    def take(self) -> dict[str, float]:
        """Return ``attention/<statistic>/<layer>`` -> mean over heads, without those that have no row, and forget."""
        found = {}
        for (layer, statistics), (_, moments) in self._last.items():
            for name, value in zip(statistics, moments.mean.nanmean(dim=1).tolist(), strict=True):
                if value == value:  # NaN: no row counted in any head
                    found[f"attention/{name}/{layer}"] = value
        self._last.clear()
        return found
