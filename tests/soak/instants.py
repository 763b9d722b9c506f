# SPDX-License-Identifier: GPL-3.0-or-later
"""When to kill: anywhere in the time that such a work takes, or right at the border of two steps."""

import random
import signal
from dataclasses import dataclass

# Seconds around the beginning of a step that count as its border.
BORDER = 0.06
# How often, of 100: a second kill in the same work; every attempt until it is given up; SIGTERM; the broker too.
AGAIN, RELENTLESS, POLITE, BROKER = 25, 4, 20, 10
MOST_KILLS = 4


@dataclass(frozen=True)
class Instant:
    """`after` seconds: of the attempt's begin, or of the begin of `step` if one is named."""

    after: float
    step: str = ""
    number: signal.Signals = signal.SIGKILL
    broker: bool = False

    def __str__(self) -> str:
        name = "TERM" if self.number == signal.SIGTERM else "KILL"
        place = f"{self.step}+{self.after:.2f}" if self.step else f"{self.after:.2f} s"
        return f"{name} {place}{' and the broker' if self.broker else ''}"


@dataclass(frozen=True)
class Pace:
    """What an undisturbed work of a kind took: its whole time, and its steps with theirs, in seconds."""

    seconds: float
    steps: dict[str, float]


def choose(dice: random.Random, pace: Pace, *, may_give_up: bool) -> list[Instant]:
    """One kill, sometimes two, seldom as many as attempts are allowed."""
    fate = dice.randrange(100)
    if may_give_up and fate < RELENTLESS:
        return [_one(dice, pace, signal.SIGKILL) for _ in range(MOST_KILLS)]
    first = _one(dice, pace, signal.SIGTERM if dice.randrange(100) < POLITE else signal.SIGKILL)
    return [first, _one(dice, pace, signal.SIGKILL)] if fate < RELENTLESS + AGAIN else [first]


def _one(dice: random.Random, pace: Pace, number: signal.Signals) -> Instant:
    broker = dice.randrange(100) < BROKER
    if pace.steps and dice.random() < 0.5:
        step = dice.choice(sorted(pace.steps))
        if dice.random() < 0.5:
            return Instant(dice.uniform(0, BORDER), step, number, broker)
        return Instant(dice.uniform(0, pace.steps[step]), step, number, broker)
    return Instant(dice.uniform(0, pace.seconds), "", number, broker)
