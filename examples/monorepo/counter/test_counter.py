"""Tests of counter."""

import unittest

from counter import Counter


class CounterTest(unittest.TestCase):
    """The whole of it."""

    def test_pages_are_apart(self) -> None:
        """Each page has its own count."""
        counter = Counter()
        self.assertEqual([counter.visit("a"), counter.visit("a"), counter.visit("b")], [1, 2, 1])
