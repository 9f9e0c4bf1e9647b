"""Solving inefficiency of self-supervised representation learning: the median triplet (Wang et al., 2021)."""
