"""Presets of generators and critics: one to a class, critics as features, more data from them."""
