"""Tests of the waist over HTTP."""
