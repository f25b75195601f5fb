#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Brings Spark, with all that it needs, into Maven's local repository for examples/spark.
#
# Exit status: 0 it is there, 3 it could not be fetched.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launcher/common.sh
source "$ROOT/launcher/common.sh"

PLUGIN=org.apache.maven.plugins:maven-dependency-plugin:3.8.1
VERSION=$(sed -n 's|.*<spark.version>\(.*\)</spark.version>.*|\1|p' "$ROOT/examples/spark/pom.xml")

# What was resolved once is looked up without the network.
artifact=org.apache.spark:spark-sql_2.13:$VERSION
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
get() {
  (cd "$folder" && mvn --batch-mode --quiet "$@" "$PLUGIN:get" "-Dartifact=$artifact" 2>&1)
}
get --offline >/dev/null && exit
say "fetching Spark $VERSION (300 MB, once) into Maven's local repository"
log=$(get) || die 3 "Spark could not be downloaded ($(grep . <<<"$log" | tail -n 1 | cut -c 1-160))"
