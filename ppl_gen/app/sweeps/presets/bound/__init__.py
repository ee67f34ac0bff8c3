"""Presets about the bound: what it is, how it climbs, what it costs."""
