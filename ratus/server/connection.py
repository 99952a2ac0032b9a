"""What the application may learn about its peer: ``scope["ratus.connection"]``.

``scope["ratus.headers"]`` holds the last value of each header by its name, in lower case.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Connection(Protocol):
    """The connection of the request in work, and what is known of its peer.

    The handler of a request that waits registers a callback, and checks ``disconnected`` once more right
    before it sends its answer: ``send`` hands the answer to the network without a pause in between, so the
    value cannot change meanwhile.
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
        """The whole body of the request in work, without the messages and pauses of ``receive``.

        To be called before any ``receive``. None where a part of the body has not arrived yet, or the client
        has disconnected: then call ``receive``.
        """

    def answer(self, status: int, content_type: bytes, body: bytes) -> bool:
        """Write the whole answer to the request in work at once, where ``send`` takes two messages.

        False: nothing was written, since the socket is not ready, or the client has disconnected, or the
        request is a HEAD; then call ``send``. The answer has no headers of the application but
        ``content-type``. Not to be used where middleware adds headers in ``send``.
        """

    def check_answers(self) -> None:
        """Raise `Overloaded` while clients leave too many bytes of answers unread.

        To be called before a large answer is made.
        """

    def watch(self, callback: Callable[[], None] | None) -> None:
        """Call ``callback`` once, from the event loop, as soon as ``disconnected`` or ``pipelined`` is true.

        It is called in the loop's next turn if one of them is true already. There is one callback at a time;
        None removes it, and so does the end of the response.
        """
