"""Models of the world of free scenes: a user's words become what they were trained on."""
