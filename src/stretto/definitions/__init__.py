"""Text or classes to spec: read, check (all faults at once), compile. Nothing here runs anything or touches a store."""
