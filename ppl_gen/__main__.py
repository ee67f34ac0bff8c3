"""`python -m ppl_gen` is the command `ppl-gen`."""

from ppl_gen.app.cli import main

if __name__ == "__main__":
    main()
