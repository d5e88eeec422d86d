"""The study of time steps: its points (point, with the mathematics in cells) and its page.

Above the stages: a point is sealed sequences trained once more. Not here: which points there are (schemas/study).
"""
