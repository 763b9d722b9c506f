# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes, rates, durations and moments in the words that pages use. Pure functions, no Django settings."""

from __future__ import annotations

import unicodedata
from datetime import datetime, timedelta

BINARY_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
MIB = 1024 * 1024


def three_digits(value: float) -> str:
    """Return `value` (0 to 999.5) with at most three significant digits, without trailing zeros."""
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def scaled(n_bytes: float) -> tuple[float, str]:
    """Return the number and the binary unit in which `n_bytes` needs at most three digits before the point."""
    value, unit = float(n_bytes), 0
    while value >= 999.5 and unit < len(BINARY_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return value, BINARY_UNITS[unit]


def size(n_bytes: int) -> str:
    """Say a size: `1.8 GiB`, `96 GiB`, `1 byte`."""
    if n_bytes < 0:
        return f"−{size(-n_bytes)}"
    if n_bytes == 1:
        return "1 byte"
    value, unit = scaled(n_bytes)
    return f"{three_digits(value)} {unit}"


def amount(done: int, total: int) -> str:
    """Say how much of how much, in the unit of the whole and with steady digits: `1.80 of 4.2 GiB`.

    The number of decimals follows the whole, so a counter on a live page does not change its width.
    """
    whole, unit = scaled(total)
    power = 1024 ** BINARY_UNITS.index(unit)
    decimals = 0 if unit == "bytes" else 2 if whole < 9.995 else 1 if whole < 99.95 else 0
    return f"{done / power:.{decimals}f} of {three_digits(whole)} {unit}"


def rate(bytes_per_second: float) -> str:
    """Say a rate, always in MiB/s so that two of them can be compared at a glance."""
    mib = bytes_per_second / MIB
    if 0 < mib < 0.01:
        return "under 0.01 MiB/s"
    return f"{three_digits(mib)} MiB/s" if mib < 999.5 else f"{mib:,.0f} MiB/s"


def duration(seconds: float) -> str:
    """Say how long: `0.4 s`, `12 s`, `1 min 12 s`, `2 h 5 min`, `3 days 4 h`."""
    seconds = max(0.0, seconds)
    if seconds < 0.95:
        return f"{seconds:.1f} s" if seconds >= 0.05 else "0 s"
    whole = round(seconds)
    for big, small, big_word, small_word in (
        (86400, 3600, "day", "h"),
        (3600, 60, "h", "min"),
        (60, 1, "min", "s"),
    ):
        if whole >= big:
            n, rest = whole // big, whole % big // small
            word = f"{big_word}s" if big_word == "day" and n > 1 else big_word
            return f"{n} {word} {rest} {small_word}" if rest else f"{n} {word}"
    return f"{whole} s"


def about(seconds: float) -> str:
    """Say a guessed duration no more exactly than it is known: `12 s`, `2 min`, `3 h 20 min`."""
    for limit, grain in ((20, 1), (60, 5), (600, 30), (3600, 60), (36000, 600)):
        if seconds < limit:
            return duration(max(1, round(seconds / grain) * grain))
    return duration(round(seconds / 3600) * 3600)


def ago(moment: datetime, now: datetime) -> str:
    """Say a moment as seen from `now`: `just now`, `2 hours ago`, `yesterday`, `in 5 minutes`."""
    delta: timedelta = now - moment
    seconds = delta.total_seconds()
    distance = abs(seconds)
    if distance < 45:
        return "just now" if seconds >= 0 else "in a moment"
    text = _distance(distance)
    if text == "1 day":
        return "yesterday" if seconds >= 0 else "tomorrow"
    return f"{text} ago" if seconds >= 0 else f"in {text}"


def _distance(seconds: float) -> str:
    for limit, grain, word in (
        (45 * 60, 60, "minute"),
        (22 * 3600, 3600, "hour"),
        (45 * 86400, 86400, "day"),
        (320 * 86400, 30.44 * 86400, "month"),
    ):
        if seconds < limit:
            n = max(1, round(seconds / grain))
            return f"{n} {word}" if n == 1 else f"{n} {word}s"
    n = max(1, round(seconds / (365.25 * 86400)))
    return "1 year" if n == 1 else f"{n} years"


_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


def day_and_time(moment: datetime, now: datetime) -> str:
    """Say when something was, both in the reader's time zone: `today 06:10`, `yesterday 22:04`, `Friday 22:04`,
    `12 March 22:04`, `12 March 2025 22:04`."""
    days = (now.date() - moment.date()).days
    if 0 <= days < 7:
        day = ("today", "yesterday")[days] if days < 2 else _DAYS[moment.weekday()]
    else:
        day = f"{moment.day} {_MONTHS[moment.month - 1]}"
        day = day if moment.year == now.year else f"{day} {moment.year}"
    return f"{day} {moment:%H:%M}"


def isolated(text: str) -> str:
    """A name for use inside a sentence: one written right to left is isolated (U+2068 … U+2069), so that the words
    around it keep their order. Other names stay as they are."""
    if any(unicodedata.bidirectional(letter) in ("R", "AL", "RLE", "RLO", "RLI") for letter in text):
        return f"\u2068{text}\u2069"
    return text


def counted(number: int, noun: str) -> str:
    """`1 machine`, `1,200 machines`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
