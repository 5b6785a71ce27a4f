"""What stands in place of a KV cache where a test's decoder keeps nothing in it."""


class Lengths:
    """A cache that holds nothing but how much it would hold."""

    copies_in_parts = False

    def __init__(self):
        self.lengths = []

    def allocate(self, max_ids):
        self.lengths.append(0)
        return len(self.lengths) - 1

    def free(self, slot):
        self.lengths[slot] = 0

    def copy_prefix(self, source, target, length=None, start=0):
        self.lengths[target] = self.lengths[source] if length is None else length

    def truncate(self, slot, length):
        self.lengths[slot] = length

    def reset(self, slot):
        self.lengths[slot] = 0
