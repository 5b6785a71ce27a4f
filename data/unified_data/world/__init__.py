"""The world: things in several art styles anywhere in a picture, with captions in two languages."""
