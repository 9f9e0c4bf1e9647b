"""Neural architecture refinement: search the operators of a network, keep its skips (Jiang et al., 2019)."""
