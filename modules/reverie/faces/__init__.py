"""What people touch. Every face is drawn from a pipeline's Params by forms.py: one definition, many faces."""
