"""Numbers as text."""

import math
from collections.abc import Sequence

NOTHING = "—"
SMALL, LARGE = 1e-4, 1e7  # outside of these, powers of ten
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, whole places never dropped; a dash for one that is not finite.

    12.345 is 12.3, 12700 is 12,700, and 1.2e30 is 1.20 × 10³⁰.
    """
    return fixed(value, places(value, digits)) if plain(value) else scientific(value, digits)


def plain(value: float) -> bool:
    """Whether a number is written without a power of ten."""
    return not value or SMALL <= abs(value) < LARGE


def fixed(value: float, decimals: int) -> str:
    """A number with so many decimals and separators between thousands."""
    return f"{value:,.{decimals}f}" if math.isfinite(value) else NOTHING


def scientific(value: float, digits: int = 3) -> str:
    """A number as a power of ten: 1.20 × 10³⁰."""
    if not math.isfinite(value):
        return NOTHING
    factor, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{factor} × 10{str(int(exponent)).translate(SUPERSCRIPTS)}"


def places(value: float, digits: int) -> int:
    """Decimals that show so many significant digits."""
    if not value or not math.isfinite(value):
        return 0
    return max(0, digits - 1 - math.floor(math.log10(abs(value))))


def count(value: float) -> str:
    """A whole number with separators."""
    return fixed(value, 0)


def percent(share: float) -> str:
    """A share as a whole number of hundredths; a dash for one that is not known."""
    return f"{share:.0%}" if math.isfinite(share) else NOTHING


def images(seen: float) -> str:
    """A number of images to three digits: 50,000, 6,020, 1.5 million."""
    if not math.isfinite(seen):
        return NOTHING
    exact = float(f"{seen:.3g}")
    return f"{exact / 1e6:g} million" if exact >= 1e6 else f"{exact:,.0f}"


def duration(seconds: float) -> str:
    """A time to about two digits: 0.42 s, 12.9 s, 3 min 20 s, 2 h 5 min."""
    if not math.isfinite(seconds):
        return NOTHING
    if round(seconds) < 60:
        return f"{number(seconds)} s"
    if round(seconds) < 3600:
        return f"{round(seconds) // 60} min {round(seconds) % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def setting(value: object) -> str:
    """A setting as people write it, exactly: MLflow keeps strings, `0.5`, `10.0` and `3000.0`."""
    try:
        found = float(str(value))
    except ValueError:
        return str(value)
    return f"{found:,.10g}" if plain(found) else f"{found:.10g}"


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)
