"""Tests of calc, one of which finds its fault."""

import unittest

from calc import divide


class DivideTest(unittest.TestCase):
    """The whole of it."""

    def test_whole(self) -> None:
        """Whole results are right."""
        self.assertEqual(divide(6, 3), 2)

    def test_fraction(self) -> None:
        """And so are fractions."""
        self.assertEqual(divide(1, 2), 0.5)
