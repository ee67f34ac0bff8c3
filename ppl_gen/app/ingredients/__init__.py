"""What recipes are made of: data, likelihoods, objectives, and the ways of fitting."""
