#!/usr/bin/env bash
# token.sh USER_UUID: a JWT for compose.yaml's PostgREST, valid for a day.
set -euo pipefail
secret=${PGRST_JWT_SECRET:-a-secret-for-trying-it-out-0123456789}
base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
head=$(printf '{"alg":"HS256","typ":"JWT"}' | base64url)
claims=$(printf '{"role":"authenticated","sub":"%s","exp":%d}' "$1" "$(($(date +%s) + 86400))" | base64url)
printf '%s.%s.%s\n' "$head" "$claims" "$(printf '%s.%s' "$head" "$claims" | openssl dgst -binary -sha256 -hmac "$secret" | base64url)"
