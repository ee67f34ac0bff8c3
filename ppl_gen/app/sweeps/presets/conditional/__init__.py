"""Conditional VAEs: what a label, or a spoilt picture, says beside the code."""
