"""The rules, without input or output: records, what commands do to them, limits, times, errors."""
