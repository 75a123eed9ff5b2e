"""Codes of images in a trained generator's noise: which noise and class make a picture that is given."""
