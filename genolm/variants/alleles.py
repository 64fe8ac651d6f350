"""stub"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Allele:
    contig: int
    start: int
    ref: str
    alt: str

    @property
    def kind(self):
        if len(self.ref) == len(self.alt):
            return "snv" if len(self.ref) == 1 else "mnv"
        return "insertion" if not self.ref else "deletion" if not self.alt else "delins"
