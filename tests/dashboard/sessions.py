"""Visitors without a browser: they speak the websocket protocol of Streamlit's own front end, and take the time."""

from __future__ import annotations

import time
from contextlib import ExitStack
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol


class Visitor:
    """One session. `run` shows a page with a query and says how long the server's script took until its last message, in seconds."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._open = ExitStack()
        self.errors: list[str] = []
        self.charts = 0

    def __enter__(self) -> Self:
        connection = connect(
            self._address.replace("http", "ws", 1) + "/_stcore/stream",
            origin=Origin(self._address),
            subprotocols=[Subprotocol("streamlit")],
            max_size=None,
            open_timeout=30,
        )
        self._socket = self._open.enter_context(connection)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def run(self, page: str, query: dict[str, str] | None = None, seconds: float = 60.0) -> float:
        message = BackMsg()
        message.rerun_script.query_string = urlencode(query or {})
        message.rerun_script.page_name = page
        started = time.monotonic()
        self._socket.send(message.SerializeToString())
        self.charts = 0
        while True:
            answer = ForwardMsg()
            data = self._socket.recv(timeout=seconds)
            assert isinstance(data, bytes)
            answer.ParseFromString(data)
            kind = answer.WhichOneof("type")
            if kind == "delta" and answer.delta.HasField("new_element"):
                element = answer.delta.new_element.WhichOneof("type")
                self.charts += "vega" in str(element)
                if element in ("exception", "alert") and answer.delta.new_element.alert.format in (0, 1):
                    self.errors.append(str(answer.delta.new_element)[:300])
            if kind == "script_finished":
                return time.monotonic() - started
