{{/* The probes of the operator's container. */}}
{{- define "mapa-refresh-operator.probes" -}}
{{- range $probe := list (list "startup" "/livez") (list "liveness" "/livez") (list "readiness" "/readyz") }}
{{- with index $.Values.probes (first $probe) }}
{{- if .enabled }}
{{ first $probe }}Probe:
  httpGet: { path: {{ last $probe }}, port: metrics }
  periodSeconds: {{ .periodSeconds }}
  timeoutSeconds: {{ .timeoutSeconds }}
  failureThreshold: {{ .failureThreshold }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
