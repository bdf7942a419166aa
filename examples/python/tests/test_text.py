"""Tests of durations.text."""

import unittest

from durations import DurationError, format_seconds, parse


class ParseTest(unittest.TestCase):
    """Reading."""

    def test_units(self) -> None:
        """Each unit has its size, and parts add up."""
        for text, seconds in (("90", 90), ("45s", 45), ("1h30m", 5_400), ("2w", 1_209_600), (" 1D ", 86_400)):
            with self.subTest(text):
                self.assertEqual(parse(text), seconds)

    def test_faults(self) -> None:
        """What is no duration is refused."""
        for text in ("", "h", "1x", "1m1h", "1h1h", "-5s", "1h 30m"):
            with self.subTest(text), self.assertRaises(DurationError):
                parse(text)


class FormatTest(unittest.TestCase):
    """Writing."""

    def test_inverse(self) -> None:
        """What is written is read as the same number."""
        for seconds in (0, 1, 59, 60, 3_661, 93_784, 10**9):
            with self.subTest(seconds):
                self.assertEqual(parse(format_seconds(seconds)), seconds)

    def test_negative(self) -> None:
        """There is no negative duration."""
        with self.assertRaises(DurationError):
            format_seconds(-1)
