"""The PyPI package `spiffe`, unmodified, as a workload under a lease.

usage: client.py FOLDER-OF-PACKAGES FOLDER: leaves what it got, as JSON, in FOLDER/python.
"""

import json
import os
import sys

packages, folder = sys.argv[1:]
sys.path.insert(0, packages)

from spiffe import JwtSvid, TrustDomain, WorkloadApiClient  # noqa: E402
from spiffe.workloadapi.errors import WorkloadApiError  # noqa: E402

AUDIENCE = "spiffe://b.example/ledger"


def refused(what):
    """How a request ended that must not be granted."""
    try:
        what()
    except WorkloadApiError as error:
        return str(error)
    return "granted"


with WorkloadApiClient() as client:
    x509 = client.fetch_x509_svid(timeout=20)
    authorities = client.fetch_x509_bundles(timeout=20)
    jwt = client.fetch_jwt_svid({AUDIENCE}, timeout=20)
    keys = client.fetch_jwt_bundles(timeout=20)
    validated = client.validate_jwt_svid(jwt.token, AUDIENCE, timeout=20)
    own = keys.get_bundle_for_trust_domain(TrustDomain("a.example"))
    said = {
        "x509": str(x509.spiffe_id),
        "x509_bundles": sorted(str(bundle.trust_domain) for bundle in authorities.bundles),
        "jwt": str(jwt.spiffe_id),
        "jwt_bundles": sorted(str(bundle.trust_domain) for bundle in keys.bundles),
        "validated": str(validated.spiffe_id),
        # by the package itself, with the keys that it was given
        "verified": str(JwtSvid.parse_and_validate(jwt.token, own, {AUDIENCE}).spiffe_id),
        "other_audience": refused(lambda: client.validate_jwt_svid(jwt.token, "another", timeout=20)),
        "long_audience": refused(lambda: client.fetch_jwt_svid({"a" * 257}, timeout=20)),
    }

unfinished = os.path.join(folder, ".python")
with open(unfinished, "w", encoding="utf-8") as file:
    json.dump(said, file)
os.rename(unfinished, os.path.join(folder, "python"))
