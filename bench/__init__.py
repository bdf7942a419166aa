"""Measures: what Stretto costs, each beside a floor that is measured in the same minutes. `make bench` runs them all."""
