"""What each command of `ppl-gen` does."""
