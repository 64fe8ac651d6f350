"""Variants: records of a VCF → alleles → windows → scores → the VCF again, with every record in it."""
