"""A run as people and machines read it: text, JSON, JUnit, HTML."""
