"""The check type `finger` for lbhealth: a template to copy."""
