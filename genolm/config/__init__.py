"""YAML to frozen dataclasses: the keys of each recipe."""
