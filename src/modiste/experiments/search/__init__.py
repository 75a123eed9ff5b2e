"""Hyper-parameter search: spaces, trials by Optuna, finalists over fresh seeds."""
