"""Bring, check or make a data set: `python -m data_prep list | check | import | make`."""
