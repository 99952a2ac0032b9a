"""Calls to a server: what is sent, over which connections, what is repeated, and what comes back.

`ratus.worker` and `ratus.client` stand on this package; it imports neither.

requests, responses    every call as a request, every response as a value or an error; pure
retrying, bounds       what is repeated when, and how much one request carries; pure
http1                  HTTP/1.1 as bytes; pure
sync_connections, async_connections    sockets
sync_calls, async_calls    a request is sent and repeated until it has a value or an error
delivery               a claimed task and what is to become of it
"""
