"""How a model is asked for one kind of thing, as data: draw, describe, speak, write, ..."""
