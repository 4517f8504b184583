"""The control document of a job in a bucket: one object, which workers request on condition that it has changed."""

from taskfleet.clouds.object_stores import open_store


class BucketControl:
    """A control channel in BUCKET, see ``ControlChannel``. Reads see the last write at once.

    Args:
        address: ``s3://bucket/folder`` or ``gs://bucket/folder``.
        job_id: The job; bundles of its code are in the same folder, so the permissions of machines are the same.

    Raises:
        WrongSettingError: It is not a URL of a bucket.
    """

    look_seconds: float = 10.0
    is_part_of_queue: bool = False

    def __init__(self, address: str, job_id: str) -> None:
        self._store = open_store(address)
        self._name = f"taskfleet-bundles/{job_id}/control.json"
        self._tag = ""
        self._known = b""

    def read(self) -> str | None:
        """See ``ControlChannel.read``. An object that may not be read counts as missing: so S3 answers without the permission to list."""
        found = self._store.get(self._name, unless=self._tag)
        if found is None or found.content == self._known:
            return None
        self._known, self._tag = found
        return self._known.decode("utf-8", "replace")

    def write(self, text: str) -> None:
        """See ``ControlChannel.write``."""
        self._store.put(self._name, text.encode())

    def delete(self) -> None:
        """See ``ControlChannel.delete``."""
        self._store.delete(self._name)

    def close(self) -> None:
        """See ``ControlChannel.close``."""
        self._store.close()
