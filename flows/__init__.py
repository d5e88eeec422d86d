"""What runs, in which order: the only place that reads argv and the environment."""
