"""What runs in the container: `python -m ...cloud.worker` is the image's entry point."""
