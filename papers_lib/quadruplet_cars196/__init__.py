"""Quadruplet selection methods for deep embedding learning (Karaman et al., ICIP 2019)."""
