"""The services that scripts/services starts and stops, a module each."""
