"""GitHub: its API, its command, and workflows that run."""
