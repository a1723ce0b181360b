{{/*
What the schema cannot tell, because it is about two values, or needs the remedy in words. Every complaint is told at once.
*/}}
{{- define "mapa-refresh-operator.checks" -}}
{{- $said := dict "all" list }}

{{- /* Labels: those by which the Deployment, its Service and its budget find the pods, those that helm needs, and grants of the cluster's roles. */}}
{{- $metrics := .Values.metrics }}
{{- $maps := dict "commonLabels" .Values.commonLabels "podLabels" .Values.podLabels "metrics.serviceMonitor.labels" $metrics.serviceMonitor.labels }}
{{- $maps = merge $maps (dict "metrics.podMonitor.labels" $metrics.podMonitor.labels "metrics.prometheusRule.labels" $metrics.prometheusRule.labels) }}
{{- range $value, $labels := set $maps "metrics.dashboard.labels" $metrics.dashboard.labels }}
{{- range $key, $_ := $labels }}
{{- if eq $key "app.kubernetes.io/name" }}
{{- include "mapa-refresh-operator.complain" (list $said $value $key "the chart selects its pods by it" "Remove it, and set nameOverride for another name") }}
{{- else if eq $key "app.kubernetes.io/instance" }}
{{- include "mapa-refresh-operator.complain" (list $said $value $key "the chart selects its pods by it" "Remove it; it is the name of the release") }}
{{- else if or (eq $key "app.kubernetes.io/managed-by") (hasPrefix "helm.sh/" $key) }}
{{- include "mapa-refresh-operator.complain" (list $said $value $key "helm knows its objects by it" "Remove it") }}
{{- else if hasPrefix "rbac.authorization.k8s.io/" $key }}
{{- include "mapa-refresh-operator.complain" (list $said $value $key "it would give the operator's permissions to others" "Remove it; rbac.aggregateClusterRoles lets the cluster's roles reach policies") }}
{{- end }}
{{- end }}
{{- end }}

{{- $maps = dict "commonAnnotations" .Values.commonAnnotations "podAnnotations" .Values.podAnnotations "crds.annotations" .Values.crds.annotations }}
{{- $maps = merge $maps (dict "deploymentAnnotations" .Values.deploymentAnnotations "serviceAccount.annotations" .Values.serviceAccount.annotations) }}
{{- $maps = merge $maps (dict "metrics.service.annotations" $metrics.service.annotations "metrics.dashboard.annotations" $metrics.dashboard.annotations) }}
{{- range $value, $annotations := $maps }}
{{- range $key, $_ := $annotations }}
{{- if eq $key "checksum/config" }}
{{- include "mapa-refresh-operator.complain" (list $said $value $key "the chart starts the pods again by it when the configuration changes" "Call yours otherwise") }}
{{- else if eq $key "helm.sh/resource-policy" }}
{{- include "mapa-refresh-operator.complain" (list $said $value $key "the chart sets it" "Remove it, and set crds.keep") }}
{{- else if or (hasPrefix "helm.sh/" $key) (hasPrefix "meta.helm.sh/" $key) }}
{{- include "mapa-refresh-operator.complain" (list $said $value $key "helm knows its objects by it" "Remove it") }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The operator refuses the same in its configuration file, but at its start. */}}
{{- range $value, $map := dict "runner.labels" .Values.runner.labels "runner.annotations" .Values.runner.annotations }}
{{- range $key, $_ := $map }}
{{- if or (eq $key "app.kubernetes.io/managed-by") (hasPrefix "mapa.radar.dev/" $key) }}
{{- include "mapa-refresh-operator.complain" (list $said $value $key "the operator knows its CronJobs and runs by it" "Call yours otherwise") }}
{{- else if or (hasPrefix "batch.kubernetes.io/" $key) (has $key (list "controller-uid" "job-name")) }}
{{- include "mapa-refresh-operator.complain" (list $said $value $key "Kubernetes knows the pods of Jobs by it" "Call yours otherwise") }}
{{- else if has $key (list "sidecar.istio.io/inject" "linkerd.io/inject") }}
{{- include "mapa-refresh-operator.complain" (list $said $value $key "the operator sets it, because a run does not end beside a proxy" "Remove it") }}
{{- end }}
{{- end }}
{{- end }}

{{- $values := dict "RUST_LOG" "log.level" "OTEL_EXPORTER_OTLP_ENDPOINT" "traces.endpoint" "MAPA_RUNNER_IMAGE" "runner.image" "MAPA_RUNNER_IMAGE_ORACLE" "runner.imageOracle" }}
{{- $values = merge $values (dict "MAPA_RUNNER_SERVICE_ACCOUNT" "runner.serviceAccountName" "MAPA_WATCH_NAMESPACE" "watchNamespaces" "MAPA_CONCURRENCY" "concurrency") }}
{{- $values = merge $values (dict "MAPA_LEADER_ELECT" "leaderElection.enabled" "MAPA_LOG_FORMAT" "log.format" "MAPA_LISTEN" "metrics.port") }}
{{- if .Values.traces.caBundle.configMapName }}
{{- $_ := set $values "OTEL_EXPORTER_OTLP_CERTIFICATE" "traces.caBundle" }}
{{- end }}
{{- $names := dict }}
{{- range $variable := .Values.extraEnv }}
{{- if hasKey $values .name }}
{{- include "mapa-refresh-operator.complain" (list $said "extraEnv" .name "the chart sets it" (print "Remove it, and set " (get $values .name))) }}
{{- else if hasPrefix "MAPA_" .name }}
{{- include "mapa-refresh-operator.complain" (list $said "extraEnv" .name "the chart sets it" "Remove it") }}
{{- else if hasKey $names .name }}
{{- include "mapa-refresh-operator.complain" (list $said "extraEnv" .name "it is there twice" "Leave one") }}
{{- end }}
{{- $_ := set $names .name true }}
{{- end }}

{{- /* Of the runs the operator would be told only when it makes a CronJob. */}}
{{- range $value, $resources := dict "resources" .Values.resources "runner.resources" .Values.runner.resources }}
{{- $limits := ($resources | default dict).limits | default dict }}
{{- range $name, $asked := ($resources | default dict).requests }}
{{- if hasKey $limits $name }}
{{- $limit := get $limits $name }}
{{- if gt (include "mapa-refresh-operator.amount" $asked | float64) (include "mapa-refresh-operator.amount" $limit | float64) }}
{{- $why := printf "%v are asked for, and %v are the limit" $asked $limit }}
{{- include "mapa-refresh-operator.complain" (list $said (print $value ".requests") $name $why (printf "Ask for less, or raise %s.limits.%s" $value $name)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- $seen := dict }}
{{- range .Values.topologySpreadConstraints }}
{{- $pair := printf "%s, %s" .topologyKey .whenUnsatisfiable }}
{{- if hasKey $seen $pair }}
{{- include "mapa-refresh-operator.complain" (list $said "topologySpreadConstraints" $pair "it is there twice" "Leave one") }}
{{- end }}
{{- $_ := set $seen $pair true }}
{{- end }}

{{- range $area, $box := .Values.areas }}
{{- range $code, $name := $box.municipalities }}
{{- if gt (len $name) 100 }}
{{- include "mapa-refresh-operator.complain" (list $said "areas" (printf "%s.municipalities.%s" $area $code) "the name has more than 100 bytes" "Shorten it") }}
{{- end }}
{{- end }}
{{- range $edge := list "latitude" "longitude" }}
{{- with get $box $edge }}
{{- if not (lt (float64 .min) (float64 .max)) }}
{{- include "mapa-refresh-operator.complain" (list $said "areas" (printf "%s.%s" $area $edge) "min is not below max" "Swap them; no box crosses the antimeridian") }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- with $said.all }}
{{- fail (join "\n" (prepend . "the values do not go together:")) }}
{{- end }}
{{- end }}

{{/* Keeps a complaint: a list of the dict of them, the value, what in it, why it cannot be, and the remedy. */}}
{{- define "mapa-refresh-operator.complain" -}}
{{- $said := index . 0 }}
{{- $_ := set $said "all" (append $said.all (printf "- %s: %s is refused: %s. %s." (index . 1) (index . 2) (index . 3) (index . 4))) }}
{{- end }}

{{/* A quantity of Kubernetes as a number, near enough to tell which of two is the larger. */}}
{{- define "mapa-refresh-operator.amount" -}}
{{- $text := toString . }}
{{- $number := regexFind "^\\+?[0-9.]+([eE][-+]?[0-9]+)?" $text }}
{{- $units := dict "" 1 "n" 0.000000001 "u" 0.000001 "m" 0.001 "k" 1000 "Ki" 1024 "M" 1000000 "Mi" 1048576 "G" 1000000000 "Gi" 1073741824 }}
{{- $units = merge $units (dict "T" 1000000000000 "Ti" 1099511627776 "P" 1000000000000000 "Pi" 1125899906842624) }}
{{- $units = merge $units (dict "E" 1000000000000000000 "Ei" 1152921504606846976) }}
{{- mulf (float64 $number) (get $units (trimPrefix $number $text)) }}
{{- end }}
