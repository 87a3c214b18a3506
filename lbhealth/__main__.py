"""`python -m lbhealth` is `lbhealth`."""

from lbhealth.cli.main import main

main()
