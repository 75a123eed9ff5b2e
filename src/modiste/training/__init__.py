"""One training: the step, the loop around it, the losses, and the run folder it resumes from."""
