"""Images from a trained generator: by seed and class, as grids, animations and sets of files."""
