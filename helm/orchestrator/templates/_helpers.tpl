{{- define "orchestrator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "orchestrator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "orchestrator.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "orchestrator.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "orchestrator.selector" -}}
app.kubernetes.io/name: {{ include "orchestrator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "orchestrator.labels" -}}
{{ include "orchestrator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: orchestrator
{{- end }}

{{- define "orchestrator.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{- define "orchestrator.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "orchestrator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* From within the namespace. */}}
{{- define "orchestrator.url" -}}
http://{{ include "orchestrator.fullname" . }}:{{ .Values.service.port }}
{{- end }}

{{/* Names under which the server is called: the Service in all its lengths, the pod (probes and scrapers), loopback is always in. */}}
{{- define "orchestrator.hosts" -}}
{{- $name := include "orchestrator.fullname" . -}}
{{- $long := printf "%s.$(POD_NAMESPACE)" $name -}}
{{- concat (list "$(POD_IP)" "[$(POD_IP)]" $name $long (printf "%s.svc" $long) (printf "%s.svc.cluster.local" $long)) .Values.allowedHosts | join "," }}
{{- end }}

{{- define "orchestrator.namespaces" -}}
{{- toJson (default (list .Release.Namespace) .Values.kubernetes.namespaces) }}
{{- end }}

{{/* What a controller may do in the namespaces that it serves. */}}
{{- define "orchestrator.controllerRules" -}}
- apiGroups: [orchestrator.dev]
  resources: [trainingjobs]
  verbs:
    - list                      # what people want
    - watch                     # as they say it
    - patch                     # a finalizer, so that a deletion waits until the job's machines are gone
- apiGroups: [orchestrator.dev]
  resources: [trainingjobs/status]
  verbs:
    - patch                     # where the job stands
- apiGroups: [""]
  resources: [events]
  verbs:
    - create                    # offers and reasons, as `kubectl describe` shows them
{{- end }}

{{/* One name in a cluster for who serves all namespaces, so that a second one is refused; else one of the release. */}}
{{- define "orchestrator.webhookConfiguration" -}}
{{- if .Values.controller.namespaces -}}
{{ printf "%s-%s" .Release.Namespace (include "orchestrator.fullname" .) }}
{{- else -}}
orchestrator.dev
{{- end }}
{{- end }}

{{/* Two controllers of one object would make two jobs of it. Only a cluster that is asked knows of another one. */}}
{{- define "orchestrator.checkController" -}}
{{- $own := printf "%s/%s" .Release.Namespace .Release.Name }}
{{- $found := lookup "admissionregistration.k8s.io/v1" "ValidatingWebhookConfiguration" "" "" }}
{{- range (default list $found.items) }}
{{- $notes := default dict .metadata.annotations }}
{{- $other := printf "%s/%s" (get $notes "meta.helm.sh/release-namespace") (get $notes "meta.helm.sh/release-name") }}
{{- $whose := ternary "made without Helm" (printf "release %s" $other) (eq $other "/") }}
{{- if and (hasKey $notes "orchestrator.dev/namespaces") (ne $own $other) }}
{{- $served := compact (splitList "," (index $notes "orchestrator.dev/namespaces")) }}
{{- $both := $.Values.controller.namespaces }}
{{- if and $served $both }}
{{- $both = list }}
{{- range $served }}{{ if has . $.Values.controller.namespaces }}{{ $both = append $both . }}{{ end }}{{ end }}
{{- end }}
{{- if or $both (not $served) (not $.Values.controller.namespaces) }}
{{- fail (printf "\n\ncontroller: the webhook configuration %s is of another controller (%s), which serves %s. Two controllers of one object make two jobs of it: give each its own namespaces in controller.namespaces." .metadata.name $whose (default "all namespaces" (join ", " $served))) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* What a render is refused for, with the remedy; the schema says what single values look like. */}}
{{- define "orchestrator.check" -}}
{{- $name := include "orchestrator.fullname" . }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) }}
{{- fail (printf "\n\nname: %q is no name of a Service, which begins with a letter and has no dots. Give one in fullnameOverride, or another name to the release." $name) }}
{{- end }}
{{- if and .Values.database.url (not (hasPrefix "sqlite:" .Values.database.url)) }}
{{- fail "\n\ndatabase: a PostgreSQL URL holds a password, and values are no place for one. Put the URL into a Secret and name it in database.existingSecret." }}
{{- end }}
{{- if and .Values.database.url .Values.database.existingSecret }}
{{- fail "\n\ndatabase: url names an SQLite file and existingSecret a PostgreSQL. Give one of them, or none." }}
{{- end }}
{{- if and .Values.database.existingSecret (not .Values.tokens.existingSecret) }}
{{- fail "\n\ndatabase: two servers need the same tokens. Name a Secret with a tokens file in tokens.existingSecret." }}
{{- end }}
{{- if and .Values.persistence.existingClaim (not .Values.persistence.enabled) }}
{{- fail "\n\npersistence: existingClaim names a volume, and enabled=false says that there is none: the ledger would go with its pod. Leave enabled true, or existingClaim empty." }}
{{- end }}
{{- if and .Values.kubernetes.enabled (not .Values.kubernetes.rayJobs) (not .Values.kubernetes.jobs) }}
{{- fail "\n\nkubernetes: rayJobs and jobs are both off, so nothing may be launched in this cluster. Switch one of them on, or kubernetes.enabled off." }}
{{- end }}
{{- $given := 0 }}
{{- range list .Values.providers.document .Values.providers.existingConfigMap }}{{ if . }}{{ $given = add1 $given }}{{ end }}{{ end }}
{{- if ne (int $given) 1 }}
{{- fail "\n\nproviders: the server needs a providers file. Give either providers.document (--set-file providers.document=providers.yaml) or providers.existingConfigMap." }}
{{- end }}
{{- $given = 0 }}
{{- range list .Values.contracts.document .Values.contracts.existingConfigMap .Values.contracts.existingSecret }}{{ if . }}{{ $given = add1 $given }}{{ end }}{{ end }}
{{- if gt (int $given) 1 }}
{{- fail "\n\ncontracts: more than one contract set is named. Give one of contracts.document, contracts.existingConfigMap, contracts.existingSecret, or none." }}
{{- end }}
{{- $keys := list .Values.providers.key }}
{{- if gt (int $given) 0 }}{{ $keys = append $keys .Values.contracts.key }}{{ end }}
{{- if or .Values.capacity.document .Values.capacity.existingConfigMap }}{{ $keys = append $keys .Values.capacity.key }}{{ end }}
{{- if ne (len $keys) (len (uniq $keys)) }}
{{- fail "\n\ndocuments: providers.key, contracts.key and capacity.key name files of one folder. Give each its own." }}
{{- end }}
{{- if and .Values.capacity.document .Values.capacity.existingConfigMap }}
{{- fail "\n\ncapacity: it is given twice. Give one of capacity.document and capacity.existingConfigMap, or none." }}
{{- end }}
{{- if and .Values.controller.enabled (not .Values.tokens.existingSecret) }}
{{- fail "\n\ncontroller: it needs a token of the server. Name a Secret in tokens.existingSecret with a tokens file and, under tokens.controllerKey, one of its tokens with the scopes viewer, submitter and (for ContractSets to take effect) operator." }}
{{- end }}
{{- if .Values.controller.enabled }}
{{- include "orchestrator.checkController" . }}
{{- with .Values.controller.webhook }}
{{- if and .certificateSecret (not .caBundle) (not .annotations) }}
{{- fail "\n\ncontroller: nobody says by what the webhook's certificate is judged. Beside controller.webhook.certificateSecret give caBundle, or an annotation by which one is put there, as cert-manager.io/inject-ca-from." }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.store.secretSettings (not .Values.store.existingSecret) }}
{{- fail "\n\nstore: secretSettings names keys of a Secret, and store.existingSecret names none." }}
{{- end }}
{{- end }}
