"""Clusters and other clouds through SkyPilot: its program does all that is done there."""
