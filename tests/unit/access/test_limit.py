"""Token buckets: a burst, a steady rate, one bucket for each name, bounded memory."""

from __future__ import annotations

from stretto.access import limit as module
from stretto.access.limit import Limit
from tests.support.api import Time


def test_limit_allows_a_burst_and_then_a_rate() -> None:
    """As many as a minute allows go at once; then one for each share of a minute that passes."""
    time = Time()
    limit = Limit(60, time.now_s)
    assert [limit.take("a") for _ in range(60)] == [0.0] * 60
    assert 0 < limit.take("a") <= 1
    time.pass_s(0.5)
    assert 0 < limit.take("a") <= 0.5
    time.pass_s(0.5)
    assert limit.take("a") == 0.0
    assert limit.take("a") > 0
    time.pass_s(3600)
    assert [limit.take("a") > 0 for _ in range(61)] == [False] * 60 + [True]


def test_limit_keeps_names_apart() -> None:
    """Who asks too often keeps nobody else out."""
    limit = Limit(1, Time().now_s)
    assert (limit.take("a"), limit.take("b")) == (0.0, 0.0)
    assert limit.take("a") > 0


def test_limit_of_zero_is_none() -> None:
    """With 0 everything is allowed."""
    limit = Limit(0, Time().now_s)
    assert {limit.take("a") for _ in range(1000)} == {0.0}


def test_limit_forgets_names() -> None:
    """Who invents names does not fill the memory: no more buckets are kept than a bound."""
    limit = Limit(1, Time().now_s)
    for number in range(3 * module._FORGET_AT):
        limit.take(str(number))
    assert len(limit._buckets) <= module._FORGET_AT
