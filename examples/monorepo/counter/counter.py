"""Counts visits, from any number of threads."""

import threading


class Counter:
    """Visits by page."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._visits: dict[str, int] = {}

    def visit(self, page: str) -> int:
        """Count one visit of `page` and return how many it has had."""
        with self._lock:
            self._visits[page] = self._visits.get(page, 0) + 1
            return self._visits[page]
