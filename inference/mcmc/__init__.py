"""Markov chains that sample a posterior, and what tells whether they have."""
