"""The parts of programs as one would write them in plain PyTorch, which they are timed against."""
