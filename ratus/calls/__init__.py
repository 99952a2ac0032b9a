"""Calls to a server: what is sent, over which connections, what is repeated, and what comes back.

`ratus.worker` and `ratus.client` are built on this package, which imports neither of them.

A module that is called pure does no input or output.

requests, responses    every call as a request, every response as a value or an error; pure
retrying, bounds       when a request is sent again, and how much one request carries; pure
http1                  HTTP/1.1 as bytes; pure
sync_connections, async_connections    sockets
sync_calls, async_calls    send a request, and again where that is safe, until it has a value or an error
delivery               a claimed task, and how it is committed, released or extended
"""
