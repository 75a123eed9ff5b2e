"""Sets of images: reading them, splitting them, describing them."""
