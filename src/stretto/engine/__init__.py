"""Carries decisions out: claims a run, records, starts, watches, stops, cleans up, and goes on after a crash."""
