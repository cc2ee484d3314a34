"""Setting up frameworks."""
