"""Readers of the data sets' real on-disk layouts. Nothing here downloads."""
