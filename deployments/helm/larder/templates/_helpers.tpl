{{/* The name of everything, cut so that a StatefulSet's pods have names that fit. */}}
{{- define "larder.name" -}}
{{- if contains "larder" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-larder" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "larder.selector" -}}
app.kubernetes.io/name: larder
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "larder.labels" -}}
{{ include "larder.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end }}

{{/* What has to be said, or said otherwise. */}}
{{- define "larder.check" -}}
{{- if not .Values.zones }}{{ fail "zones: name the availability zones, such as [zone-a, zone-b, zone-c]" }}{{ end }}
{{- if not .Values.etcd.endpoints }}{{ fail "etcd.endpoints: name your etcd, such as [https://etcd-0.etcd:2379]" }}{{ end }}
{{- if not .Values.peers.secret }}{{ fail "peers.secret: name the secret with the nodes' certificates; larder cluster certs makes them" }}{{ end }}
{{- if and (not .Values.tls.secret) (not .Values.plaintext) }}{{ fail "tls.secret: name the secret with the certificate for clients, or set plaintext if the network is private by other means" }}{{ end }}
{{- if and .Values.tls.secret .Values.plaintext }}{{ fail "plaintext contradicts tls.secret" }}{{ end }}
{{- end }}
