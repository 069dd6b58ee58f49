{{- define "fanfare.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* A release that is called fanfare has objects that are called fanfare, not fanfare-fanfare. */}}
{{- define "fanfare.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 54 | trimSuffix "-" }}
{{- else }}
{{- $name := include "fanfare.name" . }}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 54 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "fanfare.selector" -}}
app.kubernetes.io/name: {{ include "fanfare.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "fanfare.labels" -}}
{{ include "fanfare.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "fanfare.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{/* Seconds of drain.period: the server's default unless settings have another. */}}
{{- define "fanfare.drain" -}}
{{- $period := dig "period" 20 (.Values.settings.drain | default dict) | toString }}
{{- if regexMatch "^[0-9]+m$" $period }}
{{- mul 60 (trimSuffix "m" $period | int) }}
{{- else if regexMatch "^[0-9]+s?$" $period }}
{{- trimSuffix "s" $period | int }}
{{- else }}
{{- fail (printf "settings.drain.period is %q: give it in seconds or minutes, such as 20, 20s or 1m, because the pod's grace period follows from it" $period) }}
{{- end }}
{{- end }}

{{/* Seconds from the order to end to the end of the process: preStop, drain.period, and at most 11 s for what is under way then. */}}
{{- define "fanfare.stop" -}}
{{- add .Values.preStopSeconds (include "fanfare.drain" .) 11 }}
{{- end }}

{{/* Not empty if Fanfare speaks TLS itself: with a certificate from a Secret, or one that it gets by ACME. */}}
{{- define "fanfare.tls" -}}
{{- if or .Values.tls.secretName ((.Values.settings.tls).acme).domains }}true{{ end }}
{{- end }}

{{/* A setting's variables, those of a group after each other: (dict "name" "FANFARE" "value" settings). */}}
{{- define "fanfare.env" -}}
{{- $name := .name }}
{{- range $key, $value := .value }}
{{- $variable := printf "%s_%s" $name (upper $key) }}
{{- if kindIs "map" $value }}
{{- include "fanfare.env" (dict "name" $variable "value" $value) }}
{{- else if not (kindIs "invalid" $value) }}
- name: {{ $variable }}
  {{- /* YAML makes 1000000 a floating-point number, which would be written as 1e+06. */}}
  {{- if kindIs "slice" $value }}
  value: {{ join "," $value | quote }}
  {{- else if kindIs "float64" $value }}
  value: {{ ternary (int64 $value | toString) (toString $value) (eq (floor $value) $value) | quote }}
  {{- else }}
  value: {{ toString $value | quote }}
  {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* A variable from a Secret. */}}
{{- define "fanfare.fromSecret" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret.name | default .default }}
      key: {{ .secret.key | default .name }}
{{- end }}

{{/* What can't work is refused before anything is applied. */}}
{{- define "fanfare.check" -}}
{{- if and (not .Values.cluster.enabled) (gt (int .Values.replicas) 1) }}
{{- fail (printf "replicas is %d and cluster.enabled is false: nodes that don't share a Redis know nothing of each other. Set replicas to 1, or cluster.enabled to true" (int .Values.replicas)) }}
{{- end }}
{{- if not .Values.existingSecret }}
{{- range $name, $secret := dict "store" .Values.store.secret "masterKey" .Values.masterKey.secret "cluster" .Values.cluster.secret }}
{{- if not (or $secret.name (and (eq $name "cluster") (not $.Values.cluster.enabled))) }}
{{- fail (printf "existingSecret and %s.secret.name are empty: name the Secret that has it" $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.service.externalTrafficPolicy (eq .Values.service.type "ClusterIP") }}
{{- fail (printf "service.externalTrafficPolicy is %s and service.type is ClusterIP, which nothing outside reaches. Set service.type to LoadBalancer or NodePort, or leave the policy empty" .Values.service.externalTrafficPolicy) }}
{{- end }}
{{- if and .Values.monitoring.serviceMonitor.enabled (not .Values.ops.enabled) (not .Values.monitoring.serviceMonitor.tokenSecret.name) }}
{{- fail "monitoring.serviceMonitor.tokenSecret.name is empty: name a Secret with a token of the role metrics, or set ops.enabled" }}
{{- end }}
{{- end }}
