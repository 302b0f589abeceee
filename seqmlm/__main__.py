"""`python -m seqmlm`: what `torchrun -m seqmlm train ...` starts on every rank."""

from seqmlm.cli import main

if __name__ == "__main__":
    main()
