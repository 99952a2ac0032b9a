"""What the application may learn about its peer: ``scope["ratus.connection"]``.

``scope["ratus.headers"]`` holds the last value of each header by its name, in lower case.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Connection(Protocol):
    """The peer of the request in work.

    A request that waits registers a callback, and looks at ``disconnected`` once more right before it sends
    its answer: ``send`` hands the answer to the network without a pause in between, so what was true then is
    still true.
    """

    @property
    def disconnected(self) -> bool:
        """The peer closed, reset or half-closed the connection, or its time was up. Never false again."""

    @property
    def pipelined(self) -> bool:
        """Another request has been pipelined behind the one in work.

        From then on a close of the peer is not seen until this request is answered.
        """

    def whole_body(self) -> bytes | None:
        """The whole body of the request in work, where all of it has come and none was received: without a
        message and a pause. None: ``receive`` it."""

    def answer(self, status: int, content_type: bytes, body: bytes) -> bool:
        """Write the whole answer to the request in work, without other headers, and without a pause: what
        ``send`` does in two messages.

        False: nothing was written, since the socket would have to be waited for, or the client is gone, or
        the body is not wanted (HEAD); ``send`` it then. Not to be used where middleware adds headers in
        ``send``.
        """

    def check_answers(self) -> None:
        """To be called before a large answer is made. Raises `Overloaded` while too much is not read."""

    def watch(self, callback: Callable[[], None] | None) -> None:
        """Call ``callback`` once, from the event loop, as soon as ``disconnected`` or ``pipelined`` is true.

        It is called in the loop's next turn if one of them is true already. There is one callback at a time;
        None removes it, and so does the end of the response.
        """
