"""What do the codes say? Latents as points that are decoded, walked between, and compared."""
