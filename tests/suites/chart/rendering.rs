//! What the chart renders, compared with what is committed. `UPDATE_GOLDEN=1` writes it instead: look at the difference.

use std::{collections::BTreeSet, env, fs, path::Path};

use mapa_refresh_tests::{
    chart_readme::readme,
    dashboard::dashboard,
    helm::{Helm, chart},
    images,
};

use crate::world::{Test, World, fixture};

pub const TESTS: &[Test] = &[
    ("rendering::helm_lint_strict_passes", lint),
    ("rendering::the_manifests_are_those_that_are_committed", golden),
    ("rendering::the_crd_of_the_chart_is_the_generated_one", crd),
    ("rendering::the_readme_is_made_of_the_values", readme_is_current),
    ("rendering::the_dashboard_is_the_one_that_is_made", dashboard_is_current),
    (
        "rendering::metrics_and_probes_have_a_switch_each_and_rules_and_dashboard_are_those_of_the_files",
        observability,
    ),
    ("rendering::the_sets_of_values_render_every_template_between_them", used),
    (
        "rendering::the_labels_by_which_tools_find_the_operator_are_no_part_of_a_selector",
        labels,
    ),
    (
        "rendering::the_chart_and_images_that_are_built_without_arguments_have_the_version_of_the_workspace",
        version,
    ),
    (
        "rendering::packed_it_renders_the_same_and_names_no_image_but_those_of_an_air_gapped_registry",
        packed,
    ),
    (
        "rendering::without_the_switch_there_is_no_crd_no_spread_and_with_a_list_of_namespaces_no_cluster_role",
        switches,
    ),
];

/// The sets of values.
const SETS: [&str; 6] = [
    "defaults",
    "one-namespace",
    "high-availability",
    "everything",
    "oracle",
    "openshift",
];

pub fn render(set: &str, further: &[&str]) -> String {
    let chart = chart().display().to_string();
    let values = fixture("values", set).display().to_string();
    let fixed = [
        "template",
        "mapa-refresh-operator",
        &chart,
        "--namespace=mapa-system",
        "--kube-version=1.33.0",
        "--values",
        &values,
    ];
    Helm::new(None).unwrap().run(fixed.iter().chain(further)).unwrap()
}

/// As the README's air-gapped installation does it.
fn packed(_: &World) {
    let (helm, folder) = (Helm::new(None).unwrap(), tempfile::tempdir().unwrap());
    let (unpacked, place) = (chart().display().to_string(), folder.path().display().to_string());
    helm.run(["package", &unpacked, "--destination", &place]).unwrap();
    let packed = format!("{place}/mapa-refresh-operator-{}.tgz", env!("CARGO_PKG_VERSION"));
    let render = |chart: &str| {
        let arguments = [
            "template",
            "mapa-refresh-operator",
            chart,
            "--namespace=mapa-system",
            "--set=image.repository=registry.inside/mapa-refresh-operator",
            "--set=runner.image.repository=registry.inside/mapa-job-runner",
        ];
        helm.run(arguments).unwrap()
    };
    let rendered = render(&packed);
    assert_eq!(rendered, render(&unpacked));
    let named = rendered
        .lines()
        .filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix("image: "));
    let named: BTreeSet<&str> = named.map(|image| image.trim_matches('"')).collect();
    let version = env!("CARGO_PKG_VERSION");
    let inside = ["mapa-job-runner", "mapa-refresh-operator"].map(|image| format!("registry.inside/{image}:{version}"));
    assert_eq!(named.into_iter().collect::<Vec<_>>(), inside);
}

/// Compares `found` with the file, or writes it.
pub fn assert_committed(path: &Path, found: &str, remedy: &str) {
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, found).unwrap();
        return;
    }
    let committed = fs::read_to_string(path).unwrap_or_default();
    let difference = committed
        .lines()
        .zip(found.lines())
        .enumerate()
        .find(|(_, (was, is))| was != is)
        .map(|(line, (was, is))| format!("line {}: committed {was:?}, now {is:?}", line + 1));
    assert!(
        committed == found,
        "{} is out of date: {remedy}\n{}",
        path.display(),
        difference.unwrap_or_else(|| "one is longer".to_owned())
    );
}

const REMEDY: &str =
    "UPDATE_GOLDEN=1 cargo test -p mapa-refresh-tests --test chart -- rendering, and look at the difference";

fn lint(_: &World) {
    let chart = chart().display().to_string();
    let said = Helm::new(None).unwrap().run(["lint", "--strict", &chart]).unwrap();
    assert!(said.contains("1 chart(s) linted, 0 chart(s) failed"), "{said}");
}

fn golden(_: &World) {
    for set in SETS {
        let manifests = render(set, &[]);
        // It has a file and a test of its own, and would be most of each of these.
        let documents = manifests
            .split("---\n")
            .filter(|document| !document.contains("kind: CustomResourceDefinition"));
        let shown: Vec<String> = documents
            .filter(|document| !document.trim().is_empty())
            .map(without_dashboard)
            .collect();
        assert_committed(
            &fixture("golden", set),
            &format!("---\n{}", shown.join("---\n")),
            REMEDY,
        );
    }
}

/// The dashboard is compared with a file of its own, too.
fn without_dashboard(document: &str) -> String {
    let key = "  mapa-refresh.json: ";
    let lines = document.lines().map(|line| match line.strip_prefix(key) {
        Some(_) => format!("{key}…\n"),
        None => format!("{line}\n"),
    });
    lines.collect()
}

/// What no set of values renders, no golden file shows.
fn used(_: &World) {
    let rendered = SETS.map(|set| render(set, &[])).concat();
    let templates = chart().join("templates");
    let files = [templates.clone(), templates.join("tests")]
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect::<Vec<_>>();
    assert!(files.len() > 10, "{files:?}");
    for file in files {
        let name = file.strip_prefix(&templates).unwrap().display();
        let source = format!("# Source: mapa-refresh-operator/templates/{name}\n");
        assert!(rendered.contains(&source), "{name}");
    }
}

fn crd(_: &World) {
    let committed = images::repository().join("crds/maparefreshpolicies.yaml");
    let committed = fs::read_to_string(committed).unwrap();
    assert_committed(&chart().join("files/maparefreshpolicies.yaml"), &committed, REMEDY);

    let manifests = render("defaults", &["--show-only=templates/crd.yaml"]);
    let mut rendered: serde_yaml::Value = serde_yaml::from_str(&manifests).unwrap();
    let metadata = rendered["metadata"].as_mapping_mut().unwrap();
    let annotations = &metadata["annotations"];
    assert_eq!(annotations["helm.sh/resource-policy"], "keep");
    assert_eq!(
        annotations["argocd.argoproj.io/sync-options"],
        "Prune=false,Delete=false"
    );
    assert_eq!(annotations["kustomize.toolkit.fluxcd.io/prune"], "disabled");
    assert!(metadata.remove("annotations").is_some() && metadata.remove("labels").is_some());
    let generated: serde_yaml::Value = serde_yaml::from_str(&committed).unwrap();
    assert_eq!(rendered, generated);
}

fn readme_is_current(_: &World) {
    let values = fs::read_to_string(chart().join("values.yaml")).unwrap();
    let alerts = fs::read_to_string(chart().join("files/alerts.yaml")).unwrap();
    assert_committed(
        &chart().join("README.md"),
        &readme(&values, &alerts).unwrap(),
        "cargo chart-readme",
    );
}

fn dashboard_is_current(_: &World) {
    assert_committed(
        &chart().join("files/dashboard.json"),
        &dashboard(),
        "cargo chart-readme",
    );
}

fn version(_: &World) {
    let text = fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    let chart: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));

    let mut labels = Vec::new();
    for file in [
        "operator/Dockerfile",
        "job-runner/Dockerfile",
        "job-runner/Dockerfile.oracle",
    ] {
        let text = fs::read_to_string(images::repository().join(file)).unwrap();
        let default = |argument: &str| {
            let begin = format!("ARG {argument}=");
            text.lines()
                .find_map(|line| line.strip_prefix(&begin).map(str::to_owned))
        };
        assert_eq!(default("VERSION").as_deref(), Some(env!("CARGO_PKG_VERSION")), "{file}");
        assert!(
            default("REVISION").is_some_and(|revision| !revision.is_empty()),
            "{file}"
        );
        default("CREATED")
            .unwrap()
            .parse::<k8s_openapi::jiff::Timestamp>()
            .unwrap();
        let key = |line: &str| {
            let (_, rest) = line.split_once("org.opencontainers.image.")?;
            rest.split_once('=').map(|(key, _)| key.to_owned())
        };
        labels.push(text.lines().filter_map(key).collect::<Vec<_>>());
    }
    assert_eq!(labels[0].len(), 7, "{labels:?}");
    assert!(labels.iter().all(|of_file| *of_file == labels[0]), "{labels:?}");
}

fn labels(_: &World) {
    const OWN: [(&str, &str); 2] = [
        ("app.kubernetes.io/part-of", "mapa-refresh"),
        ("app.kubernetes.io/component", "operator"),
    ];
    let deployment = |set: &str, further: &[&str]| -> serde_yaml::Value {
        let text = render(set, &[&["--show-only=templates/deployment.yaml"][..], further].concat());
        serde_yaml::from_str(&text).unwrap()
    };
    for set in SETS {
        let deployment = deployment(set, &[]);
        let of_pods = &deployment["spec"]["template"]["metadata"]["labels"];
        for (name, value) in OWN {
            assert_eq!(deployment["metadata"]["labels"][name], value, "{set}");
            assert_eq!(of_pods[name], value, "{set}");
        }
        let selector = deployment["spec"]["selector"]["matchLabels"].as_mapping().unwrap();
        let names: Vec<&str> = selector.keys().filter_map(|name| name.as_str()).collect();
        // Those of the first chart: an upgrade that changed them would be refused.
        assert_eq!(names, ["app.kubernetes.io/name", "app.kubernetes.io/instance"], "{set}");
    }
    // Of one's own, and not twice.
    let part_of = r"app\.kubernetes\.io/part-of";
    let text = format!("--set=commonLabels.{part_of}=grid,podLabels.{part_of}=map");
    let deployment = deployment("defaults", &[&text]);
    assert_eq!(deployment["metadata"]["labels"][OWN[0].0], "grid");
    assert_eq!(deployment["spec"]["template"]["metadata"]["labels"][OWN[0].0], "map");
}

fn switches(_: &World) {
    let without = render("defaults", &["--set=crds.install=false"]);
    assert!(!without.contains("kind: CustomResourceDefinition"));
    let dropped = render("defaults", &["--set=crds.keep=false", "--show-only=templates/crd.yaml"]);
    assert!(!dropped.contains("resource-policy") && !dropped.contains("prune") && !dropped.contains("Prune"));
    let narrow = render("defaults", &["--set=watchNamespaces={a,b}"]);
    assert!(narrow.contains("kind: Role\n") && !narrow.contains("kind: ClusterRole"));
    let none = render(
        "defaults",
        &["--set=rbac.create=false,rbac.aggregateClusterRoles=false"],
    );
    assert!(!none.contains("rbac.authorization.k8s.io"));

    let spread_by = |set: &str, further: &[&str]| -> Vec<String> {
        let only_it = ["--show-only=templates/deployment.yaml"];
        let text = render(set, &[&only_it[..], further].concat());
        let deployment: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
        let constraints = deployment["spec"]["template"]["spec"].get("topologySpreadConstraints");
        let constraints = constraints.and_then(|list| list.as_sequence()).into_iter().flatten();
        constraints
            .map(|constraint| constraint["topologyKey"].as_str().unwrap().to_owned())
            .collect()
    };
    let (node, zone) = ("kubernetes.io/hostname", "topology.kubernetes.io/zone");
    assert_eq!(spread_by("defaults", &[]), [node, zone]);
    assert!(spread_by("defaults", &["--set=replicas=1"]).is_empty());
    assert_eq!(
        spread_by("high-availability", &[]),
        [zone],
        "one's own instead of these"
    );
    for set in ["defaults", "high-availability"] {
        let off = spread_by(set, &["--set=topologySpread.enabled=false"]);
        assert!(off.is_empty(), "{set}: {off:?}");
    }
}

fn observability(_: &World) {
    let defaults = render("defaults", &[]);
    assert!(
        !defaults.contains("monitoring.coreos.com"),
        "nothing that needs further definitions"
    );
    for probe in [
        "startupProbe:",
        "livenessProbe:",
        "readinessProbe:",
        "publishNotReadyAddresses",
    ] {
        assert!(defaults.contains(probe), "{probe}");
    }
    let none = render(
        "defaults",
        &[
            "--set=probes.startup.enabled=false,probes.liveness.enabled=false,probes.readiness.enabled=false,metrics.service.enabled=false",
        ],
    );
    assert!(!none.contains("Probe:") && !none.contains("kind: Service\n"));

    let rendered = |switch: &str, template: &str| -> serde_yaml::Value {
        let text = render(
            "defaults",
            &[
                &format!("--set=metrics.{switch}"),
                &format!("--show-only=templates/{template}.yaml"),
            ],
        );
        serde_yaml::from_str(&text).unwrap()
    };
    let rule = rendered(
        "prometheusRule.enabled=true,metrics.prometheusRule.labels.release=p",
        "prometheusrule",
    );
    let committed = fs::read_to_string(chart().join("files/alerts.yaml")).unwrap();
    let committed: serde_yaml::Value = serde_yaml::from_str(&committed).unwrap();
    assert_eq!(rule["spec"], committed);
    assert_eq!(rule["metadata"]["labels"]["release"], "p");
    let map = rendered("dashboard.enabled=true", "dashboard");
    assert_eq!(map["data"]["mapa-refresh.json"], dashboard().as_str());
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    let service = rendered("serviceMonitor.enabled=true", "servicemonitor");
    assert_eq!(service["spec"]["endpoints"][0]["port"], "metrics");
    let pod = rendered("podMonitor.enabled=true", "podmonitor");
    assert_eq!(pod["spec"]["podMetricsEndpoints"][0]["port"], "metrics");
}
