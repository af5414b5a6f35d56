#!/bin/sh
# The alerts of deploy/prometheus/alerts.yml as the Prometheus operator takes them: make rules.
set -eu
cat <<'HEAD'
# Written by `make rules` from deploy/prometheus/alerts.yml: change that file, and not this one.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: consumers
spec:
HEAD
sed -n '/^groups:/,$p' "$(dirname "$0")/prometheus/alerts.yml" | sed 's/^\(.\)/  \1/'
