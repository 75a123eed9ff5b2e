"""A local web page to look at runs, play with generators and train."""
