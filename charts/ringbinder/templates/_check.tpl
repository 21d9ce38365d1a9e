{{- /* Whether a value is given, however deep: dict with "values" and "path". Prints "yes" or nothing. */}}
{{- define "ringbinder.has" -}}
{{- $at := .values }}
{{- $found := true }}
{{- range .path }}
{{- if and $found (kindIs "map" $at) (hasKey $at .) }}
{{- $at = index $at . }}
{{- else }}
{{- $found = false }}
{{- end }}
{{- end }}
{{- if and $found (not (kindIs "invalid" $at)) }}yes{{ end }}
{{- end }}

{{- /* Ends the installation with everything that cannot work, and what to write instead. */}}
{{- define "ringbinder.check" -}}
{{- $values := .Values }}
{{- $answers := .Files.Get "files/answers.yaml" | fromYaml }}
{{- $problems := list }}
{{- range $answers.values }}
{{- if include "ringbinder.has" (dict "values" $values "path" .path) }}
{{- $problems = append $problems (printf "%s: %s" (join "." .path) .instead) }}
{{- end }}
{{- end }}
{{- range $name, $code := .Values.extraConfig }}
{{- if $code }}
{{- $given := list }}
{{- range $answers.snippets }}
{{- if contains .what ($code | toString) }}
{{- $given = append $given .instead }}
{{- end }}
{{- end }}
{{- if contains "module:name" (join "" $given) }}
{{- $given = append $given $answers.named }}
{{- end }}
{{- $instead := $given | join "; " | default $answers.otherwise }}
{{- $problems = append $problems (printf "extraConfig.%s: Python snippets are not run here. Instead, %s" $name $instead) }}
{{- end }}
{{- end }}
{{- if has (base .Values.image.name) $answers.images.names }}
{{- $problems = append $problems (printf "image.name: %s %s" .Values.image.name $answers.images.instead) }}
{{- end }}
{{- /* Helm looks at the version that this chart needs alone. */}}
{{- with .Subcharts.jupyterhub }}
{{- with .Chart.KubeVersion }}
{{- if not (semverCompare . $.Capabilities.KubeVersion.Version) }}
{{- $problems = append $problems (printf "jupyterhub.enabled: the sub-chart jupyterhub needs Kubernetes %s, and this cluster has %s" . $.Capabilities.KubeVersion.Version) }}
{{- end }}
{{- end }}
{{- end }}
{{- /* What the sub-chart does not put right itself: the kubelet would refuse the hub's pod. */}}
{{- $hub := .Values.jupyterhub.hub | default dict }}
{{- if dig "podSecurityContext" "runAsNonRoot" false $hub }}
{{- range $list := list "initContainers" "extraContainers" }}
{{- range index $hub $list }}
{{- if and (include "ringbinder.root" .securityContext) (not (hasKey .securityContext "runAsNonRoot")) }}
{{- $problems = append $problems (printf "jupyterhub.hub.%s: the container %s is to run as root, in a pod that must not: add runAsNonRoot: false to its securityContext" $list .name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if $problems }}
{{- fail (printf "\n\n%d value(s) that cannot be used:\n  - %s\n" (len $problems) (join "\n  - " $problems)) }}
{{- end }}
{{- end }}
