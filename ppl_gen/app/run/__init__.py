"""A run: its folder, its weights, its progress and its pictures."""
