"""A model that answers as a test says, and the files of sets on disk."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from unified.evaluation.part import REFUSED, Bench
from unified.evaluation.set_files import SetPaths
from unified.evaluation.suite import PARTS
from unified_base.images import save_png
from unified_data.document import Document


def photo(path, level=90, side=(40, 56)):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(path, np.full((*side, 3), level, np.uint8))


@dataclass(frozen=True, eq=False)
class Answering(Bench):
    """A bench whose model answers as `say` does, from what a case is given; None: refused."""

    say: object = field(default=None)

    def request(self, verb, **inputs):
        return inputs

    def complete(self, requests):
        answers = [self.say(request) for request in requests]
        return [f"{REFUSED}too long" if each is None else Document((each,)) for each in answers]


def measured(name, folder, say, cases=100, conditions=None, output=None):
    part = PARTS[name]
    conditions = conditions or part.conditions
    data = part.read(SetPaths(folder, folder, output, conditions))
    result = part.measure(Answering(None, cases, conditions, 0, data=data, say=say))
    return {figure.name: figure for figure in result.figures}, result.samples


def refusal(name, folder, conditions=None, output=None):
    part = PARTS[name]
    with pytest.raises(ValueError) as error:
        part.read(SetPaths(folder, folder, output, conditions or part.conditions))
    assert "\n" not in str(error.value)
    return str(error.value)
