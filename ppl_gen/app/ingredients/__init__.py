"""What recipes are made of: data, objectives, and the ways of fitting."""
