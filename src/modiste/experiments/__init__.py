"""Comparisons over training seeds: studies, their statistics and their runs."""
