"""A server put together: settings, the engine, requests that wait, chores, the log."""
