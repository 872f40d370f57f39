"""Amounts as people read them: counts, durations and bytes."""

from __future__ import annotations


def plural(number: int, noun: str) -> str:
    """Return a count with its noun, as in 1 cell or 2,000 cells."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def clock(seconds: float) -> str:
    """Return seconds as 45 s, 12 min or 3 h 20 min."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def size(count: float) -> str:
    """Return bytes as 512 B, 3.4 kB or 12 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:  # else it is shown as 1e+03
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
