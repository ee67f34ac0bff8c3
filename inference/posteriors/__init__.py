"""The posterior itself: from any program, from a guide that is corrected, from a simulator."""
