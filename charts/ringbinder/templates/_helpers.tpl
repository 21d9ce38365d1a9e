{{- /* Labels by which a workload's pods are selected; BinderHub's names. Takes a dict: root, component. */}}
{{- define "ringbinder.selector" -}}
app: binder
component: {{ .component }}
release: {{ .root.Release.Name }}
{{- end }}

{{- define "ringbinder.labels" -}}
{{ include "ringbinder.selector" . }}
heritage: {{ .root.Release.Service }}
app.kubernetes.io/name: ringbinder
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{- /* name:tag of a container, its pull policy. Takes a dict: root, image. */}}
{{- define "ringbinder.image" -}}
image: {{ printf "%s:%s" .image.name (.image.tag | default .root.Chart.AppVersion) | quote }}
{{- with .image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- end }}

{{- /* A value without what is null in it, as JSON: Helm's way to drop a default, which Kubernetes takes for "". */}}
{{- define "ringbinder.given" -}}
{{- if kindIs "map" . }}
{{- $given := dict }}
{{- range $key, $value := . }}
{{- if not (kindIs "invalid" $value) }}
{{- $_ := set $given $key (include "ringbinder.given" $value | fromJsonArray | first) }}
{{- end }}
{{- end }}
{{- list $given | toJson }}
{{- else if kindIs "slice" . }}
{{- $given := list }}
{{- range . }}
{{- $given = append $given (include "ringbinder.given" . | fromJsonArray | first) }}
{{- end }}
{{- list $given | toJson }}
{{- else }}
{{- list . | toJson }}
{{- end }}
{{- end }}

{{- /* Whether a securityContext names root as the user: "yes" or nothing. */}}
{{- define "ringbinder.root" -}}
{{- if kindIs "map" . }}
{{- if and (hasKey . "runAsUser") (eq (toString .runAsUser) "0") }}yes{{ end }}
{{- end }}
{{- end }}

{{- /* Labels or annotations, as texts; what is null is left out. */}}
{{- define "ringbinder.texts" -}}
{{- range $key, $value := . }}
{{- if not (kindIs "invalid" $value) }}
{{ $key | quote }}: {{ $value | toString | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Pull secrets, as names or as references. Takes the list. */}}
{{- define "ringbinder.pullSecrets" -}}
{{- range . }}
- name: {{ if kindIs "string" . }}{{ . | quote }}{{ else }}{{ .name | quote }}{{ end }}
{{- end }}
{{- end }}

{{- /* Environment variables: a list, or a mapping of names to texts, or to what Kubernetes takes. */}}
{{- define "ringbinder.env" -}}
{{- if kindIs "slice" . }}
{{- toYaml . }}
{{- else }}
{{- range $name, $value := . }}
{{- if kindIs "invalid" $value }}
{{- else if kindIs "map" $value }}
{{- list (merge (dict "name" ($value.name | default $name)) $value) | toYaml | nindent 0 }}
{{- else }}
{{- list (dict "name" $name "value" ($value | toString)) | toYaml | nindent 0 }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "ringbinder.binderhub" -}}
{{- (.Values.config | default dict).BinderHub | default dict | toYaml }}
{{- end }}

{{- define "ringbinder.baseUrl" -}}
{{- $path := dig "base_url" "/" (include "ringbinder.binderhub" . | fromYaml) | trimAll "/" }}
{{- $path | empty | ternary "/" (printf "/%s/" $path) }}
{{- end }}

{{- define "ringbinder.port" -}}
{{- dig "port" 8585 (include "ringbinder.binderhub" . | fromYaml) | int }}
{{- end }}

{{- /* The sub-chart's name for its hub: Service, and Secret with the token of the service `binder`. */}}
{{- define "ringbinder.hub" -}}
{{- $prefix := .Values.jupyterhub.fullnameOverride | default "" }}
{{- $prefix | empty | ternary "hub" (printf "%s-hub" $prefix) }}
{{- end }}

{{- define "ringbinder.proxy" -}}
{{- $prefix := .Values.jupyterhub.fullnameOverride | default "" }}
{{- $prefix | empty | ternary "proxy-public" (printf "%s-proxy-public" $prefix) }}
{{- end }}

{{- /* https, if the Ingress has a certificate for the host. Takes a dict: root, host. */}}
{{- define "ringbinder.scheme" -}}
{{- $ingress := .root.Values.ingress }}
{{- $https := $ingress.https | default dict }}
{{- $secure := and $https.enabled (eq ($https.type | default "") "kube-lego") }}
{{- range $ingress.tls }}
{{- if or (not .hosts) (has $.host .hosts) }}
{{- $secure = true }}
{{- end }}
{{- end }}
{{- $secure | ternary "https" "http" }}
{{- end }}

{{- /* Where the hub answers inside of the cluster; its API is below that, at hub/api. */}}
{{- define "ringbinder.hubAddress" -}}
{{- $path := .Values.jupyterhub.hub.baseUrl | default "/" | trimAll "/" }}
{{- printf "http://%s:8081/%s" (include "ringbinder.hub" .) ($path | empty | ternary "" (printf "%s/" $path)) }}
{{- end }}

{{- define "ringbinder.launcher" -}}
{{- dig "launcher" "jupyterhub" ((.Values.config | default dict).Ringbinder | default dict) }}
{{- end }}

{{- /* Path of the builder's socket on the nodes. */}}
{{- define "ringbinder.socket" -}}
{{- if eq .Values.imageBuilderType "host" }}
{{- with .Values.imageCleaner.host }}{{ .dockerSocketDir }}/{{ .dockerSocketName }}{{ end }}
{{- else }}
{{- with index .Values .Values.imageBuilderType }}{{ .hostSocketDir }}/{{ .hostSocketName }}{{ end }}
{{- end }}
{{- end }}

{{- /* Which nodes build: KubernetesBuildExecutor.node_selector, or its older name. */}}
{{- define "ringbinder.buildNodes" -}}
{{- $old := dig "build_node_selector" dict (include "ringbinder.binderhub" . | fromYaml) }}
{{- dig "node_selector" $old ((.Values.config | default dict).KubernetesBuildExecutor | default dict) | default dict | include "ringbinder.given" | fromJsonArray | first | toJson }}
{{- end }}

{{- /* Nodes for users only are good for builders too. */}}
{{- define "ringbinder.buildTolerations" -}}
- {key: hub.jupyter.org/dedicated, operator: Equal, value: user, effect: NoSchedule}
- {key: hub.jupyter.org_dedicated, operator: Equal, value: user, effect: NoSchedule}
{{- with .Values.tolerations }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* How to complete the installation; empty if it is complete. */}}
{{- define "ringbinder.completion" -}}
{{- if and (eq (include "ringbinder.launcher" .) "jupyterhub") (empty (dig "hub_url" "" (include "ringbinder.binderhub" . | fromYaml))) -}}
helm upgrade {{ .Release.Name }} <this chart> --namespace {{ .Release.Namespace }} --reuse-values --set config.BinderHub.hub_url=http://<address of the Service {{ include "ringbinder.proxy" . }}>
{{- end }}
{{- end }}

{{- /* Docker's config.json for pushing: the block `registry`, and what BinderHub.build_docker_config adds. */}}
{{- define "ringbinder.dockerConfig" -}}
{{- $registry := .Values.registry | default dict }}
{{- $url := $registry.url | default "https://index.docker.io/v1/" }}
{{- if contains "index.docker.io/v1" $url }}
{{- $url = "https://index.docker.io/v1/" }}
{{- end }}
{{- $config := dict }}
{{- if $registry.password }}
{{- $user := $registry.username | default (regexMatch "(^|[/.])(gcr\\.io|pkg\\.dev)(/|$)" $url | ternary "_json_key" "<token>") }}
{{- $_ := set $config "auths" (dict $url (dict "auth" (printf "%s:%s" $user $registry.password | b64enc))) }}
{{- end }}
{{- $hub := include "ringbinder.binderhub" . | fromYaml }}
{{- merge $config ($hub.buildDockerConfig | default dict) ($hub.build_docker_config | default dict) | toPrettyJson }}
{{- end }}

{{- /* What the chart itself knows, as a configuration file that the operator's own comes after. */}}
{{- define "ringbinder.config" -}}
Ringbinder:
  log_format: json
  state_folder: /var/lib/ringbinder/state
  cache_folder: /var/lib/ringbinder/cache
  drain_time: {{ .Values.deployment.drainSeconds }}
  # Addresses of the cluster and of private networks: there the proxies in front of Ringbinder are.
  trusted_proxies: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10, "fc00::/7"]
  # Who may reach it is the cluster's business.
  allowed_hosts: ["*"]
{{- if .Values.jupyterhub.enabled }}
BinderHub:
  hub_url_local: {{ include "ringbinder.hubAddress" . | quote }}
{{- end }}
KubernetesBuildExecutor:
  docker_host: {{ include "ringbinder.socket" . | quote }}
{{- end }}

{{- /* What the operator's values say, as Ringbinder reads a Helm values file. */}}
{{- define "ringbinder.values" -}}
{{- $config := .Values.config | default dict | deepCopy }}
{{- with include "ringbinder.completion" . }}
{{- $notice := printf "<p>This Binder cannot launch yet: it does not know its JupyterHub. To complete the installation: <code>%s</code></p>" (. | replace "<" "&lt;" | replace ">" "&gt;") }}
{{- $hub := $config.BinderHub | default dict }}
{{- $_ := set $config "BinderHub" (merge (dict "banner_message" (printf "%s%s" $notice ($hub.banner_message | default ""))) $hub) }}
{{- end }}
{{- dict "config" $config "registry" (.Values.registry | default dict) | toYaml }}
{{- end }}
