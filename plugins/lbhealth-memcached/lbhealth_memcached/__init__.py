"""The check type `memcached` for lbhealth."""
