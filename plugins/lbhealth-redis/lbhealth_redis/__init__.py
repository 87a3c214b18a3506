"""The check type `redis` for lbhealth."""
