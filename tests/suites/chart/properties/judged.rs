//! The judges of rendered objects: kubectl, typed decoding and the API server.

use futures::{StreamExt, stream};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Pod, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams, ValidationDirective},
    core::GroupVersionKind,
};
use mapa_refresh_operator::config_file::ConfigFile;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{release, world::Cluster};

/// A document of what was rendered, as kubectl reads it, and what is wrong with it.
pub struct Verdict {
    pub object: Value,
    pub complaints: Vec<String>,
}

/// kubectl, the types of Kubernetes, the operator, and an API server.
pub struct Judge<'a> {
    cluster: &'a Cluster,
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl<'a> Judge<'a> {
    /// One whose API server has `namespaces` and the kinds of the Prometheus operator.
    pub fn new(cluster: &'a Cluster, namespaces: &[&str]) -> Self {
        release::define_monitors(cluster);
        for namespace in namespaces {
            cluster.kubectl().namespace(namespace).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let client = runtime.block_on(cluster.plane.client()).unwrap();
        Self {
            cluster,
            runtime,
            client,
        }
    }

    /// What becomes of each of `documents`, which are for `namespace`.
    pub fn of(&self, namespace: &str, documents: &[String]) -> Vec<Verdict> {
        let objects = self.read(documents);
        assert_eq!(objects.len(), documents.len());
        let answers = objects.iter().map(|object| self.answer(namespace, object));
        let answers: Vec<Option<String>> = self.runtime.block_on(stream::iter(answers).buffered(8).collect());
        let judged = objects.into_iter().zip(answers).map(|(object, answer)| {
            let typed = typed(&object).err();
            let configured = configured(&object).err();
            let complaints = [typed, configured, answer].into_iter().flatten().collect();
            Verdict { object, complaints }
        });
        judged.collect()
    }

    /// The documents as kubectl reads them: as helm does when it installs them, by the rules of YAML 1.1.
    fn read(&self, documents: &[String]) -> Vec<Value> {
        let file = self.cluster.plane.folder().join("rendered.yaml");
        std::fs::write(&file, documents.join("\n---\n")).unwrap();
        let file = file.display().to_string();
        let arguments = [
            "create",
            "--dry-run=client",
            "--validate=false",
            "-o",
            "json",
            "-f",
            &file,
        ];
        let text = self.cluster.kubectl().run(arguments).unwrap_or_else(|error| {
            // What it read before comes first.
            let said = error.to_string();
            let last: Vec<&str> = said.lines().rev().take(3).collect();
            panic!("kubectl cannot read what was rendered: {last:?}")
        });
        let read = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        let read = read.map(Result::unwrap).flat_map(|object| match object {
            Value::Object(mut list) if list.contains_key("items") => match list.remove("items") {
                Some(Value::Array(items)) => items,
                other => panic!("{other:?} is no list"),
            },
            one => vec![one],
        });
        read.collect()
    }

    /// What the API server has against `object`; it keeps nothing of it.
    async fn answer(&self, namespace: &str, object: &Value) -> Option<String> {
        let (group_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
        let plural = match kind {
            "NetworkPolicy" => "networkpolicies".to_owned(),
            kind => format!("{}s", kind.to_lowercase()),
        };
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), &plural);
        let mut object = object.clone();
        let is_of_cluster = object["metadata"].get("namespace").is_none();
        let api: Api<DynamicObject> = if is_of_cluster {
            Api::all_with(self.client.clone(), &resource)
        } else {
            // A list of namespaces is drawn, which are not there.
            object["metadata"]["namespace"] = json!(namespace);
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        };
        if kind == "Pod" {
            // Nor is its account, as nothing of all this is kept.
            object["spec"]["serviceAccountName"] = json!("default");
        }
        let asked = PatchParams {
            dry_run: true,
            force: true,
            field_manager: Some("helm".to_owned()),
            field_validation: Some(ValidationDirective::Strict),
        };
        let name = text(&object["metadata"]["name"]).to_owned();
        let answer = api.patch(&name, &asked, &Patch::Apply(&object)).await;
        answer.err().map(|error| format!("the API server: {error}"))
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// `object` by the type of its kind, with nothing in it that the type does not know.
fn typed(object: &Value) -> Result<(), String> {
    fn as_a<T: DeserializeOwned>(object: &Value) -> Result<(), String> {
        let mut unknown = Vec::new();
        let mut note = |path: serde_ignored::Path<'_>| unknown.push(path.to_string());
        let object = serde_ignored::Deserializer::new(object, &mut note);
        serde_path_to_error::deserialize::<_, T>(object).map_err(|error| format!("no such object: {error}"))?;
        match unknown.first() {
            Some(path) => Err(format!("unknown: {path}")),
            None => Ok(()),
        }
    }
    match text(&object["kind"]) {
        "Deployment" => as_a::<Deployment>(object),
        "ConfigMap" => as_a::<ConfigMap>(object),
        "Service" => as_a::<Service>(object),
        "ServiceAccount" => as_a::<ServiceAccount>(object),
        "Role" => as_a::<Role>(object),
        "RoleBinding" => as_a::<RoleBinding>(object),
        "ClusterRole" => as_a::<ClusterRole>(object),
        "ClusterRoleBinding" => as_a::<ClusterRoleBinding>(object),
        "NetworkPolicy" => as_a::<NetworkPolicy>(object),
        "PodDisruptionBudget" => as_a::<PodDisruptionBudget>(object),
        "Pod" => as_a::<Pod>(object),
        "CustomResourceDefinition" => as_a::<CustomResourceDefinition>(object),
        "ServiceMonitor" | "PodMonitor" | "PrometheusRule" => Ok(()),
        other => Err(format!("who knows a {other}?")),
    }
}

/// The operator's configuration, if `object` has it, as the operator reads it.
fn configured(object: &Value) -> Result<(), String> {
    let Some(config) = object["data"]["config.yaml"].as_str() else {
        return Ok(());
    };
    ConfigFile::parse(config)
        .map(drop)
        .map_err(|error| format!("the operator: {error}\n{config}"))
}

/// What of `values` is something else in `objects`, which were rendered of them.
pub fn otherwise_than_written(values: &Value, objects: &[&Value]) -> Vec<String> {
    let mut found = Vec::new();
    let mut expect = |what: &str, is: &Value, should: &Value| {
        if !same(is, should) {
            found.push(format!("{what} is {is}, and {should} was written"));
        }
    };
    let of_kind = |kind: &str| objects.iter().find(|object| object["kind"] == kind);
    for (name, value) in values["commonLabels"].as_object().into_iter().flatten() {
        for object in objects {
            let own = |section: &str| values["metrics"][section]["labels"].get(name).is_some();
            let is_own = match text(&object["kind"]) {
                "ServiceMonitor" => own("serviceMonitor"),
                "PodMonitor" => own("podMonitor"),
                "PrometheusRule" => own("prometheusRule"),
                "ConfigMap" => own("dashboard"),
                _ => false,
            };
            if !is_own {
                expect(name, &object["metadata"]["labels"][name], value);
            }
        }
    }
    let of_one = [
        ("Deployment", "/spec/template/metadata/labels", &values["podLabels"]),
        (
            "Deployment",
            "/spec/template/metadata/annotations",
            &values["podAnnotations"],
        ),
        ("Deployment", "/metadata/annotations", &values["deploymentAnnotations"]),
        (
            "ServiceAccount",
            "/metadata/annotations",
            &values["serviceAccount"]["annotations"],
        ),
        (
            "CustomResourceDefinition",
            "/metadata/annotations",
            &values["crds"]["annotations"],
        ),
        (
            "Service",
            "/metadata/annotations",
            &values["metrics"]["service"]["annotations"],
        ),
        (
            "ServiceMonitor",
            "/metadata/labels",
            &values["metrics"]["serviceMonitor"]["labels"],
        ),
        (
            "PodMonitor",
            "/metadata/labels",
            &values["metrics"]["podMonitor"]["labels"],
        ),
        (
            "PrometheusRule",
            "/metadata/labels",
            &values["metrics"]["prometheusRule"]["labels"],
        ),
        (
            "Deployment",
            "/spec/template/spec/nodeSelector",
            &values["nodeSelector"],
        ),
    ];
    for (kind, place, map) in of_one {
        // The account of `helm test` is of this kind as well.
        let is_hook = |object: &&&Value| !object["metadata"]["annotations"]["helm.sh/hook"].is_null();
        let object = objects.iter().find(|object| object["kind"] == kind && !is_hook(object));
        for (name, value) in map.as_object().into_iter().flatten() {
            if let Some(object) = object {
                let is = object.pointer(place).map_or(&Value::Null, |map| &map[name.as_str()]);
                expect(&format!("{kind}{place}/{name}"), is, value);
            }
        }
    }
    if let Some(pod) = of_kind("Deployment").map(|deployment| &deployment["spec"]["template"]["spec"]) {
        let container = &pod["containers"][0];
        let variables = container["env"].as_array().unwrap();
        if let Some(extra) = values["extraEnv"].as_array() {
            expect("env", &json!(variables[variables.len() - extra.len()..]), &json!(extra));
        }
        if let Some(level) = values["log"].get("level") {
            expect("RUST_LOG", &variables[0]["value"], level);
        }
        for name in ["tolerations", "affinity", "imagePullSecrets"] {
            if let Some(value) = values.get(name).filter(|value| !is_empty(value)) {
                expect(name, &pod[name], value);
            }
        }
    }
    let configured = objects.iter().find_map(|object| object["data"]["config.yaml"].as_str());
    let configured: Value = serde_yaml::from_str(configured.unwrap()).unwrap();
    for name in [
        "labels",
        "annotations",
        "imagePullSecrets",
        "serviceAccountName",
        "nodeSelector",
        "tolerations",
        "affinity",
        "priorityClassName",
        "walletSecretName",
    ] {
        if let Some(value) = values["runner"].get(name).filter(|value| !is_empty(value)) {
            let is = &configured["runner"][name];
            // Its defaults are beside it.
            let is = match (name, value.as_object()) {
                ("nodeSelector", Some(value)) => {
                    let fields = value.keys().map(|key| (key.clone(), is[key].clone()));
                    Value::Object(fields.collect())
                }
                _ => is.clone(),
            };
            expect(&format!("runner.{name}"), &is, value);
        }
    }
    if let Some(areas) = values.get("areas").filter(|areas| !is_empty(areas)) {
        expect("areas", &configured["areas"], areas);
    }
    if let Some(namespaces) = values.get("watchNamespaces").filter(|list| list.is_array()) {
        expect("watchNamespaces", &configured["watchNamespaces"], namespaces);
    }
    found
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// Equal, and a number however it is written.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(name, value)| other.get(name).is_some_and(|other| same(value, other)))
        }
        (one, other) => one == other,
    }
}
