"""A toy paper: what a fifth wing takes, from one table to verdicts."""

from papers_lib.papers import Paper

PAPER = Paper("fifth_paper", "Shuffle Before You Step", "a toy of this companion; 2026")
