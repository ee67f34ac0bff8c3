"""Predictive densities from draws, and draws for ArviZ."""
