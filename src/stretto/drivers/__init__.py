"""Where attempts run. Drivers do not know each other; all pass one conformance suite."""
