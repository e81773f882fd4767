"""What runs in the container: `python -m launcher.worker` is the image's entry point."""
