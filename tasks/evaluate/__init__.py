"""Evaluate: the model's answers to the test split, and the measures of them."""
