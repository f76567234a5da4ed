{{- define "otel-agentperf.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "otel-agentperf.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "otel-agentperf.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "otel-agentperf.selectorLabels" -}}
app.kubernetes.io/name: {{ include "otel-agentperf.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "otel-agentperf.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "otel-agentperf.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: {{ .Values.mode }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "otel-agentperf.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "otel-agentperf.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "otel-agentperf.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* The Secret with the key of all hashes, if there is one. */}}
{{- define "otel-agentperf.saltSecret" -}}
{{- if .Values.salt.existingSecret }}
{{- .Values.salt.existingSecret }}
{{- else if .Values.salt.value }}
{{- printf "%s-salt" (include "otel-agentperf.fullname" . | trunc 58 | trimSuffix "-") }}
{{- end }}
{{- end }}

{{/* Whether requests come in from other pods. */}}
{{- define "otel-agentperf.served" -}}
{{- if or (eq .Values.mode "gateway") .Values.sidecar.service }}true{{ end }}
{{- end }}

{{/* Whether Prometheus reads the metrics from the pods, and `env` says nothing of them. */}}
{{- define "otel-agentperf.scraped" -}}
{{- $scraped := eq .Values.mode "gateway" | ternary .Values.serviceMonitor.enabled .Values.podMonitor.enabled }}
{{- range .Values.env }}
{{- if eq .name "OTEL_METRICS_EXPORTER" }}{{ $scraped = false }}{{ end }}
{{- end }}
{{- if $scraped }}true{{ end }}
{{- end }}

{{/* The proxy's TOML file. JSON's scalars and arrays of scalars are TOML's. */}}
{{- define "otel-agentperf.config" -}}
{{- $config := omit .Values.config "upstreams" }}
{{- $_ := set $config "listen" (printf "%s:4000" .Values.bindAddress) }}
{{- $_ := set $config "admin" (printf "%s:4001" .Values.bindAddress) }}
{{- if ne .Values.store.kind "none" }}
{{- if not (hasKey $config "store_max_bytes") }}
{{- $_ := set $config "store_max_bytes" .Values.store.maxBytes }}
{{- end }}
{{- end }}
{{- if .Values.tls.secretName }}
{{- $_ := set $config "tls_cert" "/etc/otel-agentperf/tls/tls.crt" }}
{{- $_ := set $config "tls_key" "/etc/otel-agentperf/tls/tls.key" }}
{{- end }}
{{- if include "otel-agentperf.saltSecret" . }}
{{- $_ := set $config "salt_file" (printf "/etc/otel-agentperf/salt/%s" .Values.salt.key) }}
{{- end }}
{{- if .Values.upstreamCA.configMapName }}
{{- $_ := set $config "upstream_ca" (printf "/etc/otel-agentperf/upstream-ca/%s" .Values.upstreamCA.key) }}
{{- end }}
{{- range $key, $value := $config }}
{{- if not (kindIs "invalid" $value) }}
{{ $key }} = {{ $value | toJson }}
{{- end }}
{{- end }}
{{- range .Values.config.upstreams }}

[[upstreams]]
{{- range $key, $value := . }}
{{ $key }} = {{ $value | toJson }}
{{- end }}
{{- end }}
{{- end }}

{{/* Seconds from the deletion of a pod to its end at the latest: requests still come, streams end, relays end (5 s), the
observer exports what it has (15 s); 10 s to spare. */}}
{{- define "otel-agentperf.terminationGracePeriodSeconds" -}}
{{- $own := add .Values.preStopSeconds (.Values.config.drain_s | ceil | int) 30 }}
{{- if eq .Values.mode "sidecar" }}{{ add $own .Values.sidecar.terminationSeconds }}{{ else }}{{ $own }}{{ end }}
{{- end }}

{{- define "otel-agentperf.container" -}}
name: otel-agentperf
image: {{ include "otel-agentperf.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- if eq .Values.mode "sidecar" }}
restartPolicy: Always
{{- end }}
args:
  - proxy
  {{- if eq .Values.store.kind "none" }}
  - --no-store
  {{- else }}
  - --store=/store
  {{- end }}
env:
  - name: OTEL_AGENTPERF_CONFIG
    value: /etc/otel-agentperf/proxy.toml
  - name: K8S_POD_NAME
    valueFrom: { fieldRef: { fieldPath: metadata.name } }
  - name: K8S_POD_UID
    valueFrom: { fieldRef: { fieldPath: metadata.uid } }
  - name: K8S_NAMESPACE_NAME
    valueFrom: { fieldRef: { fieldPath: metadata.namespace } }
  - name: K8S_NODE_NAME
    valueFrom: { fieldRef: { fieldPath: spec.nodeName } }
  - name: OTEL_RESOURCE_ATTRIBUTES
    value: k8s.pod.name=$(K8S_POD_NAME),k8s.pod.uid=$(K8S_POD_UID),k8s.namespace.name=$(K8S_NAMESPACE_NAME),k8s.node.name=$(K8S_NODE_NAME)
  {{- if include "otel-agentperf.scraped" . }}
  - name: OTEL_METRICS_EXPORTER
    value: none
  {{- end }}
  {{- with .Values.otlpHeaders.secretName }}
  - name: OTEL_EXPORTER_OTLP_HEADERS
    valueFrom: { secretKeyRef: { name: {{ . | quote }}, key: {{ $.Values.otlpHeaders.key | quote }} } }
  {{- end }}
  {{- with .Values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  - name: llm
    containerPort: 4000
  - name: admin
    containerPort: 4001
startupProbe:
  httpGet: { path: /startupz, port: admin }
  {{- toYaml .Values.probes.startup | nindent 2 }}
livenessProbe:
  httpGet: { path: /livez, port: admin }
  {{- toYaml .Values.probes.liveness | nindent 2 }}
readinessProbe:
  httpGet: { path: /readyz, port: admin }
  {{- toYaml .Values.probes.readiness | nindent 2 }}
{{- if and .Values.preStopSeconds (eq .Values.mode "gateway") }}
lifecycle:
  preStop:
    exec: { command: [sleep, {{ .Values.preStopSeconds | quote }}] }
{{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  {{- include "otel-agentperf.securityContext" . | nindent 2 }}
volumeMounts:
  - name: otel-agentperf-config
    mountPath: /etc/otel-agentperf/proxy.toml
    subPath: proxy.toml
    readOnly: true
  - name: otel-agentperf-tmp
    mountPath: /tmp
  {{- if ne .Values.store.kind "none" }}
  - name: store
    mountPath: /store
  {{- end }}
  {{- if .Values.tls.secretName }}
  - name: otel-agentperf-tls
    mountPath: /etc/otel-agentperf/tls
    readOnly: true
  {{- end }}
  {{- if include "otel-agentperf.saltSecret" . }}
  - name: otel-agentperf-salt
    mountPath: /etc/otel-agentperf/salt
    readOnly: true
  {{- end }}
  {{- if .Values.upstreamCA.configMapName }}
  - name: otel-agentperf-upstream-ca
    mountPath: /etc/otel-agentperf/upstream-ca
    readOnly: true
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Of our containers: no rights, and nothing but volumes to write to. */}}
{{- define "otel-agentperf.securityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities: { drop: [ALL] }
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{/* Sends sealed segments to a bucket. It reads the store as anybody does: when it ends or hangs, the proxy goes on. */}}
{{- define "otel-agentperf.ship" -}}
name: ship
image: {{ include "otel-agentperf.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- if eq .Values.mode "sidecar" }}
restartPolicy: Always
{{- end }}
args: [ship, /store, {{ printf "--to=%s" .Values.ship.to | quote }}, {{ printf "--every=%v" .Values.ship.everySeconds | quote }}]
{{- if or .Values.ship.endpoint .Values.ship.region .Values.ship.env }}
env:
  {{- with .Values.ship.endpoint }}
  - name: AWS_ENDPOINT_URL
    value: {{ . | quote }}
  {{- end }}
  {{- with .Values.ship.region }}
  - name: AWS_REGION
    value: {{ . | quote }}
  {{- end }}
  {{- with .Values.ship.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- with .Values.ship.existingSecret }}
envFrom:
  - secretRef: { name: {{ . | quote }} }
{{- end }}
resources:
  {{- toYaml .Values.ship.resources | nindent 2 }}
securityContext:
  {{- include "otel-agentperf.securityContext" . | nindent 2 }}
volumeMounts:
  - name: otel-agentperf-ship-tmp
    mountPath: /tmp
  - name: store
    mountPath: /store
{{- end }}

{{- define "otel-agentperf.volumes" -}}
- name: otel-agentperf-config
  configMap:
    name: {{ include "otel-agentperf.fullname" . }}
- name: otel-agentperf-tmp
  emptyDir: { sizeLimit: 256Mi }
{{- if .Values.ship.to }}
- name: otel-agentperf-ship-tmp
  emptyDir: { sizeLimit: 256Mi }
{{- end }}
{{- if eq .Values.store.kind "ephemeral" }}
- name: store
  emptyDir: { sizeLimit: {{ .Values.store.size }} }
{{- end }}
{{- with .Values.tls.secretName }}
- name: otel-agentperf-tls
  secret:
    secretName: {{ . | quote }}
    {{- /* Beside containers of yours the pod has no group of ours, so that only the container itself closes the file off. */}}
    defaultMode: {{ eq $.Values.mode "gateway" | ternary "0440" "0444" }}
{{- end }}
{{- with include "otel-agentperf.saltSecret" . }}
- name: otel-agentperf-salt
  secret:
    secretName: {{ . | quote }}
    items: [{ key: {{ $.Values.salt.key | quote }}, path: {{ $.Values.salt.key | quote }} }]
    defaultMode: {{ eq $.Values.mode "gateway" | ternary "0440" "0444" }}
{{- end }}
{{- with .Values.upstreamCA.configMapName }}
- name: otel-agentperf-upstream-ca
  configMap:
    name: {{ . | quote }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "otel-agentperf.podMetadata" -}}
labels:
  {{- include "otel-agentperf.selectorLabels" . | nindent 2 }}
  app.kubernetes.io/component: {{ .Values.mode }}
  {{- with .Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  checksum/config: {{ print (include "otel-agentperf.config" .) .Values.salt.value | sha256sum }}
  {{- with .Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* What both modes give a pod. */}}
{{- define "otel-agentperf.podCommon" -}}
serviceAccountName: {{ include "otel-agentperf.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ include "otel-agentperf.terminationGracePeriodSeconds" . }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
