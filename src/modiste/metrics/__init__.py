"""Scores as pure functions of features, the extractors of those features, and the suite that names them."""
