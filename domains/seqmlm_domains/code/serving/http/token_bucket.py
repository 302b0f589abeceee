"""How often one client may ask."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

_MOST_CLIENTS: Final = 4_096


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


class TokenBuckets:
    """One token bucket per client: each request takes a token, which come back at a steady rate.

    Clients that have asked longest ago are forgotten past 4,096: their next bucket is full.

    Args:
        tokens_per_s: requests that a client may make in the long run.
        burst: size of a bucket: requests that a client may make at once.
    """

    def __init__(self, *, tokens_per_s: float, burst: int) -> None:
        self._tokens_per_s, self._burst = tokens_per_s, burst
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, client: str, *, now_s: float) -> float:
        """Take a token of a client, if there is one.

        Args:
            client: any name of it.
            now_s: of a clock that never goes back.

        Returns:
            Seconds until there is a token; 0: one was taken.
        """
        bucket = self._buckets.setdefault(client, _Bucket(self._burst, now_s))
        self._buckets.move_to_end(client)
        if len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        grown = bucket.tokens + (now_s - bucket.filled_at) * self._tokens_per_s
        bucket.tokens, bucket.filled_at = min(grown, self._burst), now_s
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / self._tokens_per_s
        bucket.tokens -= 1
        return 0.0
