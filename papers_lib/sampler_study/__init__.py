"""Exploring sampler strategies in unsupervised person re-identification training (Cao et al.)."""
