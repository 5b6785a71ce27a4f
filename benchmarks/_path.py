"""Importing this first lets libraries be found before the files beside it.

Python looks in a script's own folder first, and transformers would take the tokenizers.py here for
the package of that name.
"""

import sys

sys.path.append(sys.path.pop(0))
