"""The permissions at Cloud Storage; see ``google_permissions``."""

from typing import Final

from taskfleet.clouds.permissions import (
    BUCKET_IS_SET,
    LARGE_VALUES,
    LOOKS_FOR_VALUES,
    POOL,
    TELLS_WORKERS,
    TERMINATORS,
    USERS_OF_RESULTS,
    Condition,
    Grant,
    Permission,
    Use,
    Who,
)

BUCKET: Final = "projects/_/buckets/{bucket}"
TABLE_BUCKET: Final = "projects/_/buckets/{table_bucket}"

BUNDLES: Final = Condition(
    "the object is a bundle (the condition requires uniform bucket-level access)",
    (("", "", 'resource.name.startsWith("projects/_/buckets/{bucket}/objects/{folder}taskfleet-bundles/")'),),
)
CONTROL: Final = Condition(
    "the object is the job's control document",
    (
        (
            "",
            "",
            'resource.name == "projects/_/buckets/{bucket}/objects/{folder}taskfleet-bundles/{job}/control.json"',
        ),
    ),
)
#: The default of RESULTS_PATH.
RESULTS: Final = Condition(
    "the object is a large value of the job",
    (("", "", 'resource.name.startsWith("projects/_/buckets/{bucket}/objects/{folder}{job}/results/")'),),
)

_OBJECTS: Final = "Storage Object User"

BUCKETS: Final = (
    Permission(
        name="storage.objects.create",
        use=Use.CODE,
        purpose="uploads a bundle of the project's code",
        grants=(
            Grant(POOL, (BUCKET,)),
            Grant((Who.QUEUE,), (BUCKET,), CONTROL, only_if=BUCKET_IS_SET, purpose=TELLS_WORKERS),
            Grant(USERS_OF_RESULTS, (BUCKET,), RESULTS, only_if=LARGE_VALUES, purpose="writes large values"),
        ),
        role=_OBJECTS,
    ),
    Permission(
        name="storage.objects.get",
        use=Use.CODE,
        purpose="checks whether a bundle exists",
        grants=(
            Grant(POOL, (BUCKET,)),
            Grant(
                (Who.MACHINE,),
                (BUCKET,),
                BUNDLES,
                purpose="downloads the project's code; reads the control document",
                role="Storage Object Viewer",
            ),
            Grant(
                (Who.QUEUE,),
                (TABLE_BUCKET,),
                only_if="TASK_TABLE is in Cloud Storage",
                purpose="reads the table",
                role="Storage Object Viewer",
            ),
            Grant(USERS_OF_RESULTS, (BUCKET,), RESULTS, only_if=LARGE_VALUES, purpose="reads large values"),
        ),
        role=_OBJECTS,
    ),
    Permission(
        name="storage.objects.delete",
        use=Use.CODE,
        purpose="removes the job's bundles",
        grants=(
            Grant(TERMINATORS, (BUCKET,)),
            Grant(
                (Who.QUEUE,),
                (BUCKET,),
                CONTROL,
                only_if=BUCKET_IS_SET,
                purpose="replaces the job's control document, and deletes it",
            ),
            Grant(
                USERS_OF_RESULTS,
                (BUCKET,),
                RESULTS,
                only_if=LARGE_VALUES,
                purpose="replaces a large value that is incomplete, or that another worker writes at the same time",
            ),
        ),
        role=_OBJECTS,
    ),
    Permission(
        name="storage.objects.list",
        use=Use.CODE,
        purpose="lists the job's bundles",
        grants=(
            Grant(TERMINATORS, (BUCKET,)),
            Grant(USERS_OF_RESULTS, (BUCKET,), only_if=LARGE_VALUES, purpose=LOOKS_FOR_VALUES),
        ),
        role=_OBJECTS,
    ),
)
