{{- /* The specification of Ringbinder's pods. */}}
{{- define "ringbinder.pod" -}}
{{- $port := include "ringbinder.port" . | int }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- include "ringbinder.pullSecrets" . | nindent 2 }}
{{- end }}
{{- if .Values.rbac.enabled }}
serviceAccountName: binderhub
{{- end }}
nodeSelector: {{ .Values.nodeSelector | toJson }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "ringbinder.selector" (dict "root" . "component" "binder") | nindent 8 }}
# Streams under way end by themselves, or are asked to; then there is time to write and to deliver to the sinks.
terminationGracePeriodSeconds: {{ add .Values.deployment.leaveSeconds .Values.deployment.drainSeconds 60 }}
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  fsGroup: 1000
  seccompProfile:
    type: RuntimeDefault
initContainers:
  {{- with .Values.initContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- if .Values.plugins }}
  - name: plugins
    {{- include "ringbinder.image" (dict "root" . "image" .Values.image) | nindent 4 }}
    # Nothing that Ringbinder itself stands on changes its version, and Ringbinder is not looked for anywhere.
    command:
      - sh
      - -ec
      - |
        python=$(command -v python)
        uv pip freeze --no-cache --python "$python" | grep -v ' @ ' > /tmp/constraints.txt
        printf '%s\n' ringbinder ringbinder-core > /tmp/excludes.txt
        uv pip install --no-cache --python "$python" --target /opt/plugins \
          --constraint /tmp/constraints.txt --excludes /tmp/excludes.txt "$@"
      - plugins
      {{- range .Values.plugins }}
      - {{ . | quote }}
      {{- end }}
    terminationMessagePolicy: FallbackToLogsOnError
    {{- include "ringbinder.container" . | nindent 4 }}
  {{- end }}
  - name: config-check
    {{- include "ringbinder.image" (dict "root" . "image" .Values.image) | nindent 4 }}
    args: [config, check, --config, /etc/binderhub/config/chart.yaml, --config, /etc/binderhub/config/values.yaml]
    # What is wrong is seen with `kubectl describe pod`.
    terminationMessagePolicy: FallbackToLogsOnError
    {{- include "ringbinder.container" . | nindent 4 }}
containers:
  - name: binder
    {{- include "ringbinder.image" (dict "root" . "image" .Values.image) | nindent 4 }}
    args:
      - serve
      - --host
      - {{ .Values.deployment.host | quote }}
      - --config
      - /etc/binderhub/config/chart.yaml
      - --config
      - /etc/binderhub/config/values.yaml
    ports:
      - name: binder
        containerPort: {{ $port }}
    {{- range $kind := list "startupProbe" "readinessProbe" "livenessProbe" }}
    {{- $probe := index $.Values.deployment $kind }}
    {{- if $probe.enabled }}
    {{- $http := dict "path" (printf "%sversions" (include "ringbinder.baseUrl" $)) "port" "binder" }}
    {{ $kind }}:
      {{- mergeOverwrite (dict "httpGet" $http) (omit $probe "enabled") | toYaml | nindent 6 }}
    {{- end }}
    {{- end }}
    {{- /* A proxy that does not know yet sends connections here: a server that had nothing to do would be gone. */}}
    {{- $hooks := .Values.lifecycle | default dict | deepCopy }}
    {{- if and .Values.deployment.leaveSeconds (not $hooks.preStop) }}
    {{- $leave := list "sleep" (.Values.deployment.leaveSeconds | int | toString) }}
    {{- $_ := set $hooks "preStop" (dict "exec" (dict "command" $leave)) }}
    {{- end }}
    {{- with $hooks }}
    lifecycle: {{- toYaml . | nindent 6 }}
    {{- end }}
    terminationMessagePolicy: FallbackToLogsOnError
    {{- include "ringbinder.container" . | nindent 4 }}
volumes:
  - name: config
    secret:
      secretName: binder-secret
      items:
        - {key: chart.yaml, path: chart.yaml}
        - {key: values.yaml, path: values.yaml}
  - name: docker-config
    secret:
      secretName: binder-build-docker-config
  - name: work
    emptyDir: {}
  {{- if .Values.extraFiles }}
  - name: files
    secret:
      secretName: binder-secret
      items:
        {{- range $name, $file := .Values.extraFiles }}
        {{- with $file }}
        - key: {{ $name | quote }}
          path: {{ $name | quote }}
          {{- with .mode }}
          mode: {{ . | int }}
          {{- end }}
        {{- end }}
        {{- end }}
  {{- end }}
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- /* What Ringbinder's container and its init containers share. */}}
{{- define "ringbinder.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
resources: {{- toYaml .Values.resources | nindent 2 }}
env:
  {{- include "ringbinder.environment" . | nindent 2 }}
volumeMounts:
  - {name: config, mountPath: /etc/binderhub/config, readOnly: true}
  - {name: docker-config, mountPath: /etc/binderhub/docker, readOnly: true}
  - {name: work, mountPath: /var/lib/ringbinder, subPath: state}
  - {name: work, mountPath: /opt/plugins, subPath: plugins}
  - {name: work, mountPath: /tmp, subPath: tmp}
  {{- range $name, $file := .Values.extraFiles }}
  {{- with $file }}
  - name: files
    mountPath: {{ .mountPath | quote }}
    subPath: {{ $name | quote }}
    readOnly: true
  {{- end }}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "ringbinder.environment" -}}
{{- $hub := include "ringbinder.binderhub" . | fromYaml }}
- name: BUILD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: HOME
  value: /var/lib/ringbinder
- name: DOCKER_CONFIG
  value: /etc/binderhub/docker
- name: PYTHONPATH
  value: /etc/binderhub/python:/opt/plugins
- name: BINDERHUB_BUILD_TOKEN_SECRET
  valueFrom:
    secretKeyRef:
      name: binder-secret
      key: build-token-secret
{{- if .Values.jupyterhub.enabled }}
- name: JUPYTERHUB_API_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "ringbinder.hub" . }}
      key: hub.services.binder.apiToken
{{- end }}
{{- if $hub.auth_enabled }}
{{- $binder := .Values.jupyterhub.hub.services.binder }}
- name: JUPYTERHUB_SERVICE_NAME
  value: binder
- name: JUPYTERHUB_API_URL
  value: {{ printf "%shub/api" ($hub.hub_url_local | default (include "ringbinder.hubAddress" .)) | quote }}
- name: JUPYTERHUB_BASE_URL
  value: {{ .Values.jupyterhub.hub.baseUrl | default "/" | quote }}
- name: JUPYTERHUB_CLIENT_ID
  value: {{ $binder.oauth_client_id | default "service-binder" | quote }}
- name: JUPYTERHUB_OAUTH_CALLBACK_URL
  value: {{ $binder.oauth_redirect_uri | default "" | quote }}
{{- if .Values.jupyterhub.hub.allowNamedServers }}
- name: JUPYTERHUB_ALLOW_NAMED_SERVERS
  value: "true"
- name: JUPYTERHUB_NAMED_SERVER_LIMIT_PER_USER
  value: {{ .Values.jupyterhub.hub.namedServerLimitPerUser | default 0 | quote }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ include "ringbinder.env" . | trim }}
{{- end }}
{{- end }}
