"""Subscribing: claiming ahead, running handlers, committing in batches, keeping claims, stopping in order.

`pace`, `commits` and `keeping` decide, without clock, thread or connection of their own; `threads` and
`coroutines` carry it out, for the synchronous and the asynchronous client.
"""
