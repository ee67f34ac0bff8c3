"""Ways to fit: the loop, and the steps that plug into it."""
