"""What queues, machines and buckets share in talking to AWS and Google Cloud: sessions, credentials, retries, error texts."""
