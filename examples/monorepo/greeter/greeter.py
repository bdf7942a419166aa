"""Greets customers by the time of the day."""


def greet(name: str, hour: int) -> str:
    """Return the greeting for `name` at `hour` (0 to 23)."""
    if not 0 <= hour <= 23:
        raise ValueError(f"no hour {hour}")
    part = "night" if hour < 6 else "morning" if hour < 12 else "afternoon" if hour < 18 else "evening"
    return f"Good {part}, {name.strip() or 'stranger'}!"
