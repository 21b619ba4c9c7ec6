"""What does each cloud's own error code mean to us: reason, scope, and for how long?

Called by the mock provider for every reply that is no success and for every declined offer. A table, nothing else: an
unknown code of a refused request becomes `error`, the whole provider, a short until; an unknown 5xx means nothing.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from orchestrator.model.offer import Reason, Scope


class Kind(Enum):
    """What a reply that is no success tells us."""

    REFUSED = "refused"
    THROTTLED = "throttled"
    UNAUTHORIZED = "unauthorized"
    ABSENT = "absent"
    NOTHING = "nothing"
    """Not to be trusted: done or not done."""


class Meaning(NamedTuple):
    """One row. `hold_off_s`: how long a refusal is worth remembering where the cloud does not say."""

    kind: Kind
    reason: Reason = Reason.ERROR
    scope: Scope = Scope.PROVIDER
    hold_off_s: int = 60


class Row(NamedTuple):
    """A code of one cloud (empty: any), and a part of its message (empty: any)."""

    cloud: str
    code: str
    says: str
    meaning: Meaning


def _capacity(scope: Scope, hold_off_s: int = 300) -> Meaning:
    return Meaning(Kind.REFUSED, Reason.CAPACITY, scope, hold_off_s)


SHORT_OF_ZONE = _capacity(Scope.ZONE)
SHORT_OF_REGION = _capacity(Scope.REGION)
QUOTA = _capacity(Scope.ACCELERATOR, 3600)
NO_SKU = Meaning(Kind.REFUSED, Reason.SPEC, Scope.ACCELERATOR, 86_400)
NO_REGION = Meaning(Kind.REFUSED, Reason.REGION, Scope.REGION, 86_400)
SPEC = Meaning(Kind.REFUSED, Reason.SPEC, Scope.PROVIDER, 3600)
PRICE = Meaning(Kind.REFUSED, Reason.PRICE, Scope.ACCELERATOR, 300)
POLICY = Meaning(Kind.REFUSED, Reason.POLICY, Scope.PROVIDER, 3600)
MALFORMED = Meaning(Kind.REFUSED, Reason.ERROR, Scope.PROVIDER, 60)
THROTTLED = Meaning(Kind.THROTTLED)
UNAUTHORIZED = Meaning(Kind.UNAUTHORIZED)
ABSENT = Meaning(Kind.ABSENT)
NOTHING = Meaning(Kind.NOTHING)

TABLE: tuple[Row, ...] = (
    Row("azure", "SkuNotAvailable", "", SHORT_OF_REGION),
    Row("azure", "AllocationFailed", "", SHORT_OF_REGION),
    Row("azure", "QuotaExceeded", "", QUOTA),
    Row("azure", "InvalidParameter", "", NO_SKU),
    Row("azure", "LocationNotAvailableForResourceType", "", NO_REGION),
    Row("azure", "InvalidRequestContent", "", SPEC),
    Row("azure", "MaxPriceExceeded", "", PRICE),
    Row("azure", "UnsupportedImage", "", SPEC),
    Row("azure", "RequestDisallowedByPolicy", "", POLICY),
    Row("azure", "TooManyRequests", "", THROTTLED),
    Row("azure", "ResourceNotFound", "", ABSENT),
    Row("azure", "IdempotencyTokenConflict", "", MALFORMED),
    Row("azure", "InvalidAuthenticationToken", "", UNAUTHORIZED),
    Row("aws", "InsufficientInstanceCapacity", "", SHORT_OF_ZONE),
    Row("aws", "VcpuLimitExceeded", "", QUOTA),
    Row("aws", "Unsupported", "", NO_SKU),
    Row("aws", "OptInRequired", "", NO_REGION),
    Row("aws", "InvalidParameterValue", "", SPEC),
    Row("aws", "SpotMaxPriceTooLow", "", PRICE),
    Row("aws", "InvalidAMIID.Unavailable", "", SPEC),
    Row("aws", "UnauthorizedOperation", "", POLICY),
    Row("aws", "RequestLimitExceeded", "", THROTTLED),
    Row("aws", "InvalidInstanceID.NotFound", "", ABSENT),
    Row("aws", "IdempotentParameterMismatch", "", MALFORMED),
    Row("aws", "AuthFailure", "", UNAUTHORIZED),
    Row("gcp", "ZONE_RESOURCE_POOL_EXHAUSTED", "", SHORT_OF_ZONE),
    Row("gcp", "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "", SHORT_OF_ZONE),
    Row("gcp", "QUOTA_EXCEEDED", "", QUOTA),
    Row("gcp", "notFound", "", NO_SKU),
    Row("gcp", "invalid", "", NO_REGION),
    Row("gcp", "UNSUPPORTED_OPERATION", "", SPEC),
    Row("gcp", "CONDITION_NOT_MET", "", PRICE),
    Row("gcp", "IMAGE_NOT_SUITABLE", "", SPEC),
    Row("gcp", "forbidden", "", POLICY),
    Row("gcp", "rateLimitExceeded", "", THROTTLED),
    Row("gcp", "resourceNotFound", "", ABSENT),
    Row("gcp", "duplicate", "", MALFORMED),
    Row("gcp", "authError", "", UNAUTHORIZED),
    Row("oracle", "InternalError", "Out of host capacity", SHORT_OF_ZONE),
    Row("oracle", "LimitExceeded", "", QUOTA),
    Row("oracle", "InvalidParameter", "", NO_SKU),
    Row("oracle", "NotAuthorizedOrNotFound", "", NO_REGION),
    Row("oracle", "CannotParseRequest", "", SPEC),
    Row("oracle", "IncorrectState", "", PRICE),
    Row("oracle", "InvalidImage", "", SPEC),
    Row("oracle", "NotAllowed", "", POLICY),
    Row("oracle", "TooManyRequests", "", THROTTLED),
    Row("oracle", "NotFound", "", ABSENT),
    Row("oracle", "InvalidatedRetryToken", "", MALFORMED),
    Row("oracle", "NotAuthenticated", "", UNAUTHORIZED),
    Row("coreweave", "CapacityNoneAvailable", "", SHORT_OF_REGION),
    Row("coreweave", "CapacityPartial", "", SHORT_OF_REGION),
    Row("coreweave", "QuotaOver", "", QUOTA),
    Row("coreweave", "InstanceTypeInvalid", "", NO_SKU),
    Row("coreweave", "ZoneInvalid", "", NO_REGION),
    Row("coreweave", "ResourcesInvalid", "", SPEC),
    Row("coreweave", "PriceTooLow", "", PRICE),
    Row("coreweave", "ImageInvalid", "", SPEC),
    Row("coreweave", "Forbidden", "", POLICY),
    Row("coreweave", "TooManyRequests", "", THROTTLED),
    Row("coreweave", "NotFound", "", ABSENT),
    Row("coreweave", "AlreadyExists", "", MALFORMED),
    Row("coreweave", "Unauthorized", "", UNAUTHORIZED),
    Row("stargate", "NoBlockFree", "", SHORT_OF_REGION),
    Row("stargate", "BlockLost", "", SHORT_OF_REGION),
    Row("stargate", "ShareSpent", "", QUOTA),
    Row("stargate", "NoSuchAccelerator", "", NO_SKU),
    Row("stargate", "NoSuchSite", "", NO_REGION),
    Row("stargate", "NodeTooSmall", "", SPEC),
    Row("stargate", "BelowRate", "", PRICE),
    Row("stargate", "ImageLacks", "", SPEC),
    Row("stargate", "NotPermitted", "", POLICY),
    Row("stargate", "SlowDown", "", THROTTLED),
    Row("stargate", "NoSuchCluster", "", ABSENT),
    Row("stargate", "TokenReused", "", MALFORMED),
    Row("stargate", "NoToken", "", UNAUTHORIZED),
    Row("", "MalformedRequest", "", MALFORMED),
)


def meaning(cloud: str, code: str, message: str, status: int) -> Meaning:
    """What this reply means; `status` is HTTP's, and decides only where the code is unknown."""
    for row in TABLE:
        if row.cloud in ("", cloud) and row.code == code and row.says in message:
            return row.meaning
    if status == 429:
        return THROTTLED
    if status == 401:
        return UNAUTHORIZED
    return MALFORMED if 400 <= status < 500 else NOTHING
