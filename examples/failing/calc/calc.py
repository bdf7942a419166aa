"""A calculator that is not finished."""


def divide(a: float, b: float) -> float:
    """Return a / b."""
    return a // b  # FIXME: this rounds down
