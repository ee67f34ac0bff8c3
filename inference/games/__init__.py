"""Players against each other: a generator and its critic, two domains and their translators."""
