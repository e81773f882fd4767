"""Data and models of other kinds, to copy from: each is one file here and one in configs/experiment. Delete what you do not need."""
