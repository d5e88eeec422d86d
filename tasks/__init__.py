"""One module or folder a stage, in the order of the DAG, and the foundations that several stages share."""
