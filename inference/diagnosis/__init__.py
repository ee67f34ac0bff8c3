"""What is wrong with a fit: gaps, collapse, calibration."""
