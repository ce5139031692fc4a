#!/usr/bin/env python3
"""Counts k-mers of FASTA or FASTQ as the `kmers` workload does, by other means: slices of whole sequences and a Counter.

usage: check.py [--canonical] K < SEQUENCES

It is slow and holds everything in memory; it is here to be compared with.
"""

import re
import sys
from collections import Counter


def sequences(text):
    """The sequences of FASTA, or of FASTQ with four lines a record."""
    if text.startswith(">"):
        for record in text.split("\n>"):
            _, *lines = record.split("\n")
            yield "".join(lines)
    elif text.startswith("@"):
        yield from text.split("\n")[1::4]
    elif text:
        raise SystemExit("neither FASTA nor FASTQ")


def kmers(sequence, k):
    """Every k-mer, in order, of the stretches without other letters."""
    for stretch in re.findall("[ACGT]+", sequence.upper()):
        for start in range(len(stretch) - k + 1):
            yield stretch[start : start + k]


def main():
    canonical = "--canonical" in sys.argv[1:]
    (k,) = (int(word) for word in sys.argv[1:] if word != "--canonical")
    complement = str.maketrans("ACGT", "TGCA")
    counts = Counter()
    text = sys.stdin.read().replace("\r\n", "\n")
    for sequence in sequences(text):
        for kmer in kmers(sequence, k):
            counts[min(kmer, kmer.translate(complement)[::-1]) if canonical else kmer] += 1
    for kmer in sorted(counts):
        print(kmer, counts[kmer], sep="\t")


if __name__ == "__main__":
    main()
