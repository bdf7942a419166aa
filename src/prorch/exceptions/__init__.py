"""Old import paths; see `stretto.process`."""
