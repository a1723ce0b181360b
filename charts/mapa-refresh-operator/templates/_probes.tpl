{{/* The probes of the operator's container. */}}
{{- define "mapa-refresh-operator.probes" -}}
{{- range $probe := list (list "startup" "/livez") (list "liveness" "/livez") (list "readiness" "/readyz") }}
{{- with index $.Values.probes (first $probe) }}
{{- if .enabled }}
{{ first $probe }}Probe:
  httpGet: { path: {{ last $probe }}, port: metrics }
  periodSeconds: {{ int64 .periodSeconds }}
  timeoutSeconds: {{ int64 .timeoutSeconds }}
  failureThreshold: {{ int64 .failureThreshold }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
