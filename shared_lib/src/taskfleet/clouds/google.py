"""What everything that talks to Google Cloud shares."""

#: What to do where no credentials were found, or they are no longer good.
LOG_IN = (
    "Log in (gcloud auth application-default login), name a key file in GOOGLE_APPLICATION_CREDENTIALS, or give the machine a service "
    "account."
)
