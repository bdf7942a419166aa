"""Measures. Each prints its figures as ratios to a floor that it measures in the same run."""
