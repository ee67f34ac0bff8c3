"""The presets of `ppl-gen sweep`: each file in a folder here is one of them, a `PRESET`."""
