"""Complaints of about a thousand characters, put together from real sentences with a fixed seed."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from scorebeat.examples.complaints.corpus import SENTIMENTS, corpus

COUNT = 20_000
CHARACTERS = 1_000
PRODUCTS = ("Credit card", "Mortgage", "Student loan", "Debt collection", "Bank account or service", "Payday loan")
MOODS = (0.6, 0.3, 0.1)
"""Share of complaints whose sentences are mostly negative, neutral, positive."""
OF_ITS_MOOD = 0.7
"""Share of a complaint's sentences that have its mood; the others have any mood."""
WITHOUT_TEXT = 0.1
"""Share of complaints that came without a narrative: NULL."""
FIRST_DAY = date(2024, 1, 1)
DAYS = 700


@dataclass(frozen=True)
class Complaint:
    """A row of the table `complaints`, without its id."""

    received: date
    product: str
    consumer_complaint_narrative: str | None


def complaints(count: int = COUNT, seed: int = 2015) -> Iterator[Complaint]:
    """`count` complaints; a larger count begins with the same ones. Raises UsageError without the corpus."""
    draw = np.random.default_rng(seed)
    labelled = corpus()
    anything = [each.text for each in labelled]
    by_mood = {mood: [each.text for each in labelled if each.sentiment == mood] for mood in SENTIMENTS}
    for _ in range(count):
        received = FIRST_DAY + timedelta(days=int(draw.integers(DAYS)))
        product = PRODUCTS[draw.integers(len(PRODUCTS))]
        text = _text(draw, by_mood[draw.choice(SENTIMENTS, p=MOODS)], anything)
        yield Complaint(received, product, None if draw.random() < WITHOUT_TEXT else text)


def _text(draw: np.random.Generator, of_its_mood: list[str], anything: list[str]) -> str:
    sentences: list[str] = []
    while sum(map(len, sentences)) + len(sentences) < CHARACTERS:
        source = of_its_mood if draw.random() < OF_ITS_MOOD else anything
        sentences.append(source[draw.integers(len(source))])
    return " ".join(sentences)
