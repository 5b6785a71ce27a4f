"""Materials to try the commands on: pictures, sounds, records in other projects' forms."""

from unified_data.demo.materials import (
    NUM_PICTURES,
    training_sentences,
    write_articles,
    write_pictures,
    write_preferences,
    write_questions,
    write_sounds,
)

__all__ = [
    "NUM_PICTURES",
    "training_sentences",
    "write_articles",
    "write_pictures",
    "write_preferences",
    "write_questions",
    "write_sounds",
]
