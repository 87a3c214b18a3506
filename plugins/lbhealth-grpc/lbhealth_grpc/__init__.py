"""The check type `grpc` for lbhealth."""
