"""Where numbers and pictures go while a run trains."""
