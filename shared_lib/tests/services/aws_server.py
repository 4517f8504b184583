"""moto's server, of which the stand-ins for AWS's services are made."""

import json
import logging
import threading
from importlib import import_module
from typing import Any

#: The account that their clients have.
ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def make_application() -> Any:
    """Give the application that answers for all services; None if moto is not there, and who waits for the server has heard so."""
    try:
        moto: Any = import_module("moto.server")
        import_module("werkzeug.serving")
    except ImportError:
        print(json.dumps({"lacks": "moto is not installed: uv add --dev 'moto[server]'"}), flush=True)
        return None
    return moto.DomainDispatcherApplication(moto.create_backend_app)


def serve(application: Any) -> int:
    """Answer requests in other threads, on a free port of the loopback interface; give the port."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return int(server.port)
