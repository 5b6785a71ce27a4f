"""Documents of text, images and audio: reading, writing, shards and worlds.

Imports neither torch nor anything else of this project; see `document`, `shards`, `files` and
`pocket`.
"""
