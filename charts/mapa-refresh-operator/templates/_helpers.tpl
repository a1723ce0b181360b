{{/* A name of Kubernetes that is no longer than it may be: a list of the text and the length. What it is cut at may be the middle of a word. */}}
{{- define "mapa-refresh-operator.cut" -}}
{{- index . 0 | trunc (index . 1) | regexFind "^.*[A-Za-z0-9]" }}
{{- end }}

{{/* The alias of a dependency stands for the chart's name, and may begin and end as no label may. */}}
{{- define "mapa-refresh-operator.name" -}}
{{- $name := default .Chart.Name .Values.nameOverride | regexFind "[A-Za-z0-9].*" }}
{{- include "mapa-refresh-operator.cut" (list $name 63) }}
{{- end }}

{{- define "mapa-refresh-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- include "mapa-refresh-operator.cut" (list .Values.fullnameOverride 63) }}
{{- else }}
{{- /* An alias may have capitals and underscores, the name of an object may not. */}}
{{- $name := include "mapa-refresh-operator.name" . | lower | replace "_" "-" }}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- include "mapa-refresh-operator.cut" (list $full 63) }}
{{- end }}
{{- end }}

{{- define "mapa-refresh-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "mapa-refresh-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* The namespace in which `helm test` works, and the notes put their first policy. */}}
{{- define "mapa-refresh-operator.firstNamespace" -}}
{{- first (.Values.watchNamespaces | default list) | default "" }}
{{- end }}

{{/*
Several maps of strings in one, of two values of a key the last: a list of maps. `merge` would take an empty value for none, and `toYaml` loses
some of what a text may end in.
*/}}
{{- define "mapa-refresh-operator.strings" -}}
{{- $all := dict }}
{{- range $map := . }}
{{- range $key, $value := $map }}
{{- $_ := set $all $key $value }}
{{- end }}
{{- end }}
{{- $lines := list }}
{{- range $key, $value := $all }}
{{- $lines = append $lines (printf "%s: %s" (toYaml $key) (quote $value)) }}
{{- end }}
{{- join "\n" $lines }}
{{- end }}

{{- define "mapa-refresh-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "mapa-refresh-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* Labels of every object. Those by which objects are selected and which helm needs are nobody else's: _checks.tpl refuses them elsewhere. */}}
{{- define "mapa-refresh-operator.labels" -}}
{{- $chart := printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") | regexFind "[A-Za-z0-9].*" }}
{{- $described := dict "app.kubernetes.io/version" .Chart.AppVersion }}
{{- /* By these tools find the operator, whatever its objects are called. No selector has them: a Deployment's can never be changed. */}}
{{- $found := dict "app.kubernetes.io/part-of" "mapa-refresh" "app.kubernetes.io/component" "operator" }}
{{- $of_helm := dict "helm.sh/chart" (include "mapa-refresh-operator.cut" (list $chart 63)) "app.kubernetes.io/managed-by" .Release.Service }}
{{- $selected := include "mapa-refresh-operator.selectorLabels" . | fromYaml }}
{{- include "mapa-refresh-operator.strings" (list $described $found .Values.commonLabels $of_helm $selected) }}
{{- end }}

{{/*
Name, namespace, labels and annotations of an object, by a dict: `root`, `name`, `namespace` (empty where the object belongs to the cluster), and
perhaps `labels` and `annotations` of its own, which win over those of every object.
*/}}
{{- define "mapa-refresh-operator.metadata" -}}
name: {{ .name | quote }}
{{- with .namespace }}
namespace: {{ . | quote }}
{{- end }}
labels:
  {{- include "mapa-refresh-operator.strings" (list (include "mapa-refresh-operator.labels" .root | fromYaml) .labels) | nindent 2 }}
{{- if or .annotations .root.Values.commonAnnotations }}
annotations:
  {{- include "mapa-refresh-operator.strings" (list .root.Values.commonAnnotations .annotations) | nindent 2 }}
{{- end }}
{{- end }}

{{/* Environment variables beside those of the chart, by a list of them. */}}
{{- define "mapa-refresh-operator.env" -}}
{{- range . }}
- name: {{ .name | quote }}
  {{- if hasKey . "value" }}
  value: {{ .value | quote }}
  {{- end }}
  {{- with .valueFrom }}
  valueFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Who assigns the UID and the group of the pods: `fixed` (the chart) or `platform`, where the namespace's range does, as on OpenShift. */}}
{{- define "mapa-refresh-operator.userIds" -}}
{{- if ne .Values.userIds "auto" }}
{{- .Values.userIds }}
{{- else }}
{{- ternary "platform" "fixed" (.Capabilities.APIVersions.Has "security.openshift.io/v1") }}
{{- end }}
{{- end }}

{{/* The security context of a pod that runs the operator's image. */}}
{{- define "mapa-refresh-operator.podSecurityContext" -}}
runAsNonRoot: true
{{- if eq (include "mapa-refresh-operator.userIds" .) "fixed" }}
# The image's own user; without the group the node would run it in root's.
runAsUser: 65532
runAsGroup: 65532
{{- end }}
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{/* An image by repository, tag or digest: a list of the root and the value. */}}
{{- define "mapa-refresh-operator.image" -}}
{{- $root := index . 0 }}
{{- with index . 1 }}
{{- if .digest }}
{{- printf "%s@%s" .repository .digest }}
{{- else }}
{{- printf "%s:%s" .repository (default $root.Chart.AppVersion .tag) }}
{{- end }}
{{- end }}
{{- end }}

{{/* What the operator does in the namespaces of policies, and nothing else. */}}
{{- define "mapa-refresh-operator.rules" -}}
- apiGroups: [mapa.radar.dev]
  resources: [maparefreshpolicies]
  verbs: [list, watch]
- apiGroups: [mapa.radar.dev]
  resources: [maparefreshpolicies/status]
  verbs: [update]
# Setting blockOwnerDeletion needs it where OwnerReferencesPermissionEnforcement is on, as on OpenShift.
- apiGroups: [mapa.radar.dev]
  resources: [maparefreshpolicies/finalizers]
  verbs: [update]
- apiGroups: [batch]
  resources: [cronjobs]
  verbs: [get, list, watch, create, update, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* The operator's configuration file; it refuses what it does not know. */}}
{{- define "mapa-refresh-operator.config" -}}
{{- $runner := .Values.runner -}}
watchNamespaces: {{ .Values.watchNamespaces | default list | toJson }}
concurrency: {{ int64 .Values.concurrency }}
logFormat: {{ .Values.log.format }}
leaderElection:
  enabled: {{ .Values.leaderElection.enabled }}
  leaseName: {{ include "mapa-refresh-operator.fullname" . | quote }}
  leaseNamespace: {{ .Release.Namespace | quote }}
listen: ":{{ int64 .Values.metrics.port }}"
{{- with .Values.traces.endpoint }}
otlpEndpoint: {{ . | quote }}
{{- end }}
runner:
  image: {{ include "mapa-refresh-operator.image" (list . $runner.image) | quote }}
  {{- if $runner.imageOracle.repository }}
  imageOracle: {{ include "mapa-refresh-operator.image" (list . $runner.imageOracle) | quote }}
  {{- end }}
  imagePullPolicy: {{ $runner.imagePullPolicy }}
  {{- /* What is at its default is not said: an operator before this one refuses what it does not know. */}}
  {{- if ne .Values.userIds "auto" }}
  userIds: {{ .Values.userIds }}
  {{- end }}
  {{- with $runner.labels }}
  labels:
    {{- include "mapa-refresh-operator.strings" (list .) | nindent 4 }}
  {{- end }}
  {{- with $runner.annotations }}
  annotations:
    {{- include "mapa-refresh-operator.strings" (list .) | nindent 4 }}
  {{- end }}
  {{- with $runner.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $runner.serviceAccountName }}
  serviceAccountName: {{ . | quote }}
  {{- end }}
  {{- with $runner.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $runner.nodeSelector }}
  nodeSelector:
    {{- include "mapa-refresh-operator.strings" (list .) | nindent 4 }}
  {{- end }}
  {{- with $runner.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $runner.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $runner.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- if $runner.caBundle.configMapName }}
  caBundle:
    {{- toYaml $runner.caBundle | nindent 4 }}
  {{- end }}
  {{- with $runner.walletSecretName }}
  walletSecretName: {{ . | quote }}
  {{- end }}
{{- with .Values.areas }}
areas:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
