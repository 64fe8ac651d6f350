"""Models and their loss."""
