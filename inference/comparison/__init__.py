"""A guide beside MCMC beside the exact posterior."""
