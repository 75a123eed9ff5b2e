"""Pictures and charts: arrays in, figures out."""
