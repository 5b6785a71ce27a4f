"""Plain English sentences that stand nowhere in the world: everyday words, written for this."""

from __future__ import annotations

__all__ = ["OUTSIDE_SENTENCES"]

OUTSIDE_SENTENCES = (
    "The clock stopped before the rain began.",
    "She left her keys under the old chair.",
    "Nobody saw the letter on the table.",
    "We walked home along the quiet river.",
    "The baker closed his shop at noon.",
    "A loud noise came from the cellar.",
    "My brother forgot to water the garden.",
    "They painted the wall a darker grey.",
    "The last bus was late again today.",
    "He cut the paper into seven strips.",
    "Bring the blue bowl from the kitchen.",
    "The teacher read the story twice.",
    "Cold wind blew dust into the yard.",
    "Her sister plays chess every Sunday.",
    "The window broke when the door slammed.",
    "Please write your name on this line.",
    "A small boat drifted away at night.",
    "The soup was too salty for me.",
    "They carried the piano up the stairs.",
    "Our neighbour sold his car last week.",
    "The road turns left behind the church.",
    "I found three coins in my pocket.",
    "The doctor will call you tomorrow.",
    "Fresh snow covered the wooden bridge.",
    "He whispered a secret to his friend.",
    "The children drew lines in the sand.",
    "A tall man opened the heavy gate.",
    "We need more light in this room.",
    "The train passed without stopping here.",
    "She tied the parcel with green string.",
    "Most people sleep until seven o'clock.",
    "The farmer fixed the fence alone.",
)
"""Thirty-two sentences of five to eight words."""
