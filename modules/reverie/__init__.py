"""SD-Reverie: from words to pictures to film."""

__version__ = "0.1.0"
