{{- define "mapa-refresh-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "mapa-refresh-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "mapa-refresh-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "mapa-refresh-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "mapa-refresh-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "mapa-refresh-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "mapa-refresh-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{ include "mapa-refresh-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- /* By these tools find the operator, whatever its objects are called. No selector has them: a Deployment's can never be changed. */}}
{{ merge (dict) (.Values.commonLabels | default dict) (dict "app.kubernetes.io/part-of" "mapa-refresh" "app.kubernetes.io/component" "operator") | toYaml }}
{{- end }}

{{/* Name, namespace, labels and annotations of an object: a list of the root, the name, further annotations, and perhaps further labels. */}}
{{- define "mapa-refresh-operator.metadata" -}}
{{- $root := index . 0 -}}
name: {{ index . 1 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- if gt (len .) 3 }}
  {{- merge (dict) (index . 3 | default dict) (include "mapa-refresh-operator.labels" $root | fromYaml) | toYaml | nindent 2 }}
  {{- else }}
  {{- include "mapa-refresh-operator.labels" $root | nindent 2 }}
  {{- end }}
{{- with merge (dict) (index . 2) $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
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
watchNamespaces: {{ toJson .Values.watchNamespaces }}
concurrency: {{ .Values.concurrency }}
logFormat: {{ .Values.log.format }}
leaderElection:
  enabled: {{ .Values.leaderElection.enabled }}
  leaseName: {{ include "mapa-refresh-operator.fullname" . }}
  leaseNamespace: {{ .Release.Namespace }}
listen: ":{{ .Values.metrics.port }}"
{{- with .Values.traces.endpoint }}
otlpEndpoint: {{ . }}
{{- end }}
runner:
  image: {{ include "mapa-refresh-operator.image" (list . $runner.image) }}
  {{- if $runner.imageOracle.repository }}
  imageOracle: {{ include "mapa-refresh-operator.image" (list . $runner.imageOracle) }}
  {{- end }}
  imagePullPolicy: {{ $runner.imagePullPolicy }}
  {{- with $runner.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $runner.serviceAccountName }}
  serviceAccountName: {{ . }}
  {{- end }}
  resources:
    {{- toYaml $runner.resources | nindent 4 }}
  {{- with $runner.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
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
  priorityClassName: {{ . }}
  {{- end }}
  {{- if $runner.caBundle.configMapName }}
  caBundle:
    {{- toYaml $runner.caBundle | nindent 4 }}
  {{- end }}
  {{- with $runner.walletSecretName }}
  walletSecretName: {{ . }}
  {{- end }}
{{- with .Values.areas }}
areas:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
