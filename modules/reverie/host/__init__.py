"""The machine this runs on: which platform, where things may be written, what is stored. Knows only the ground."""
