"""The server of moto, which the doubles of AWS's services are based on."""

import json
import logging
import threading
from importlib import import_module
from typing import Any

#: The credentials of their clients.
ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def make_application() -> Any:
    """Return the WSGI application for all services; None if moto is not installed, after reporting that to the parent process."""
    try:
        moto: Any = import_module("moto.server")
        import_module("werkzeug.serving")
    except ImportError:
        print(json.dumps({"lacks": "moto is not installed: uv add --dev 'moto[server]'"}), flush=True)
        return None
    return moto.DomainDispatcherApplication(moto.create_backend_app)


def serve(application: Any) -> int:
    """Serve requests in threads on a free port of the loopback interface; return the port."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return int(server.port)
