"""What can be named: priors, likelihoods, guides, networks, optimisers and conditions."""
