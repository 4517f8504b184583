"""The permissions at S3; see ``aws_permissions``."""

from typing import Final

from taskfleet.clouds.permissions import (
    BUCKET_IS_SET,
    DELETES_CONTROL,
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

BUCKET: Final = "arn:aws:s3:::{bucket}"
BUNDLES: Final = "arn:aws:s3:::{bucket}/{folder}taskfleet-bundles/*"
CONTROL: Final = "arn:aws:s3:::{bucket}/{folder}taskfleet-bundles/{job}/control.json"
#: The default of RESULTS_PATH.
RESULTS: Final = "arn:aws:s3:::{bucket}/{folder}{job}/results/*"
TABLE: Final = "arn:aws:s3:::{table}"

BUNDLES_ONLY: Final = Condition(
    "only bundles are listed", (("StringLike", "s3:prefix", "{folder}taskfleet-bundles/*"),)
)
RESULTS_ONLY: Final = Condition(
    "only large values of the job are listed", (("StringLike", "s3:prefix", "{folder}{job}/results/*"),)
)


BUCKETS: Final = (
    Permission(
        name="s3:PutObject",
        use=Use.CODE,
        purpose="uploads a bundle of the project's code",
        grants=(
            Grant(POOL, (BUNDLES,)),
            Grant((Who.QUEUE,), (CONTROL,), only_if=BUCKET_IS_SET, purpose=TELLS_WORKERS),
            Grant(USERS_OF_RESULTS, (RESULTS,), only_if=LARGE_VALUES, purpose="writes large values"),
        ),
        calls=("s3:CreateMultipartUpload",),
    ),
    Permission(
        name="s3:GetObject",
        use=Use.CODE,
        purpose="checks whether a bundle exists",
        grants=(
            Grant(POOL, (BUNDLES,)),
            Grant((Who.MACHINE,), (BUNDLES,), purpose="downloads the project's code; reads the control document"),
            Grant((Who.QUEUE,), (TABLE,), only_if="TASK_TABLE is in S3", purpose="reads the table"),
            Grant(USERS_OF_RESULTS, (RESULTS,), only_if=LARGE_VALUES, purpose="reads large values"),
        ),
        calls=("s3:HeadObject",),
    ),
    Permission(
        name="s3:DeleteObject",
        use=Use.CODE,
        purpose="removes the job's bundles",
        grants=(
            Grant(TERMINATORS, (BUNDLES,)),
            Grant((Who.QUEUE,), (CONTROL,), only_if=BUCKET_IS_SET, purpose=DELETES_CONTROL),
        ),
    ),
    Permission(
        name="s3:ListBucket",
        use=Use.CODE,
        purpose="lists the job's bundles; finds the bucket's region, which AWS reports even when access is denied",
        grants=(
            Grant(TERMINATORS, (BUCKET,), BUNDLES_ONLY),
            Grant(USERS_OF_RESULTS, (BUCKET,), RESULTS_ONLY, only_if=LARGE_VALUES, purpose=LOOKS_FOR_VALUES),
        ),
        calls=("s3:ListObjectsV2", "s3:HeadBucket"),
    ),
)
