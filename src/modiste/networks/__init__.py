"""Generators and discriminators, one file per family; the classifier whose features the judge uses."""
