"""What the shipped model is, read from its folder: tests of it hold whatever its weights are."""

from unified.formats.together import together_kinds
from unified.models.files import model_directory, read_words
from unified.tasks.task_file import read_tasks

FOLDER = model_directory("pocket")
TASKS = read_tasks(FOLDER)
TOGETHER = bool(together_kinds(read_words(FOLDER)[1]))
"""Whether the codes of several levels share a position."""
HAS_DIFFUSION = (FOLDER / "image_tokenizer" / "diffusion").is_dir()
