"""Presets of autoencoders, and of classical models beside them."""
