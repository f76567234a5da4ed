"""The command line: the door of the house, the only place that knows every room."""
