"""For those who watch and control: the HTTP API, and events in words."""
