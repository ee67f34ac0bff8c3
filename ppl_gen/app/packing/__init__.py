"""A run as one file: what is packed of it, its card, and the archive that holds both."""
