"""Where numbers and pictures go."""
