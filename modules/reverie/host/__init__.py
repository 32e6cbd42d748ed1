"""The machine this runs on: which platform it is, what is stored and how much room is left. Knows only the ground."""
