"""What do the codes of a run say? Each look is a picture, and numbers with their errors."""
