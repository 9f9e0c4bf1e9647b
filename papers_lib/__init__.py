"""A companion to four papers about choosing what a network learns from."""

__version__ = "0.1.0"
