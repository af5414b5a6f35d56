// Of check.py: says what is wrong with the custom resources in a file of JSON, a line each.
import fs from "node:fs";
import { ScaledObject } from "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject";
import { PodMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PodMonitor";
import { PrometheusRule } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule";

const known = { ScaledObject, PodMonitor, PrometheusRule };
for (const each of JSON.parse(fs.readFileSync(process.argv[2], "utf8"))) {
  if (!each.apiVersion.match(/^(keda.sh|monitoring.coreos.com)\//)) continue;
  try {
    new known[each.kind](each).validate();
  } catch (error) {
    console.log(`${each.kind}: ${error.message}`);
  }
}
