"""Parameters of a simulator by matching what it draws with data, without a density."""
