"""A report of runs: what their folders hold, as one page."""
