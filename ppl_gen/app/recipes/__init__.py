"""Everything that the command knows about each model."""
