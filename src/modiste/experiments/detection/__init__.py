"""What does not belong: detectors of strange images, calibrated p-values, and how well a class left out is found."""
