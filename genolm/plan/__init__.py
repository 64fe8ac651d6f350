"""FLOPs, memory and days of a recipe before anything runs."""
