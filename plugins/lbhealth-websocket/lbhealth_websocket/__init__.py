"""The check type `websocket` for lbhealth."""
