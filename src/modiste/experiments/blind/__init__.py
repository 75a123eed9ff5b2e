"""Blind tests: people choose between two pictures without knowing where either comes from."""
