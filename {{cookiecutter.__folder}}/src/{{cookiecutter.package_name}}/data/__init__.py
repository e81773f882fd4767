"""Data sets: one Python file here and one YAML file in configs/data for each."""
