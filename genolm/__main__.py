"""`python -m genolm`, as `accelerate launch -m genolm` needs it."""

from genolm.cli import main

if __name__ == "__main__":
    main()
