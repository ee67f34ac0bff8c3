"""What `ppl-gen evaluate` asks of a run, and what it finds."""
