"""The command `lbhealth`: one file per group of commands."""
