"""Sweeps: cells, each a record of settings and what it measures; presets; users' files."""
