"""Which text and which picture belong together: towers, indices of media, the best of several."""
