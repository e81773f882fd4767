"""A Slurm cluster of one machine, of Debian's own packages, and SkyPilot beside it: nothing here stands in for anything."""
