"""What a user runs, one file for each verb."""
