"""Access to AWS and Google Cloud, shared by queues, machines and buckets: sessions, credentials, retries, errors, permissions."""
