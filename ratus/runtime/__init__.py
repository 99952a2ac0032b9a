"""The parts of a running server, and what puts them together: settings, long polls, chores, the log."""
