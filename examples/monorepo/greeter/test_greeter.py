"""Tests of greeter."""

import unittest

from greeter import greet


class GreetTest(unittest.TestCase):
    """The whole of it."""

    def test_parts_of_the_day(self) -> None:
        """Each hour has its part, at the borders too."""
        for hour, part in (
            (0, "night"),
            (5, "night"),
            (6, "morning"),
            (12, "afternoon"),
            (18, "evening"),
            (23, "evening"),
        ):
            with self.subTest(hour):
                self.assertEqual(greet("Ann", hour), f"Good {part}, Ann!")

    def test_no_name(self) -> None:
        """Who gives no name is a stranger."""
        self.assertEqual(greet("  ", 9), "Good morning, stranger!")

    def test_wrong_hour(self) -> None:
        """A day has 24 hours."""
        with self.assertRaises(ValueError):
            greet("Ann", 24)
