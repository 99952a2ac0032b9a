"""A crawler whose only memory is a Ratus topic: see README.md in this folder."""
