//! `cargo demo`: the whole product on a real Kubernetes, from nothing, with one command.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use clap::Parser;
use mapa_refresh_tests::{
    Error, Result,
    assets::{self, Assets},
    control_plane::ControlPlane,
    error::Step,
    helm::{Helm, chart, image_arguments},
    images,
    interrupt::{self, side_by_side},
    kubectl::Kubectl,
    node::Node,
    packages,
    policy::Example,
    postgres::Postgres,
    process,
    progress::{self, Part, Whole},
    redis::{self, Redis},
    scratch::{self, Scratch},
    seed,
    wait::{self, Look},
};
use serde_json::Value;

/// Where the demo lives in somebody's cluster: a namespace of its own, made and deleted by it.
const NAMESPACE_IN_EXISTING: &str = "mapa-demo";

/// Where the operator lives in a cluster of our own.
const OPERATOR_NAMESPACE: &str = "mapa-system";

/// Name of the release and of its Deployment.
const RELEASE: &str = "mapa-refresh-operator";

/// Name of our CustomResourceDefinition.
const CRD: &str = "maparefreshpolicies.mapa.radar.dev";

/// How long somebody's cache may take to answer.
const CACHE_WITHIN: Duration = Duration::from_secs(5);

/// From the cluster being ready to a compliant policy: the next full minute, three runs, and room for a slow machine.
const COMPLIANT_WITHIN: Duration = Duration::from_secs(180);

const PACKAGES: Part = part("Debian's packages", "");
const DOWNLOADS: Part = part("downloads", "");
const KUBERNETES: Part = part("Kubernetes", "4 to 10 min the first time");
const CLUSTER: Part = part("cluster and stores", "");
const IMAGES: Part = part("images", "4 min the first time");
const HELM: Part = part("helm", "2 min the first time");
const OPERATOR: Part = part("operator", "");
const COMPLIANCE: Part = part("compliance", "1 min");

const fn part(name: &'static str, takes: &'static str) -> Part {
    Part { name, takes }
}

const EXAMPLES: &str = "\
Examples:
  cargo demo                  # a cluster of its own (root); stays up until Ctrl-C
  cargo demo --exit           # ends after the print; exit code 1 if the policy did not become compliant
  cargo demo --context kind-kind \\
             --images registry.example/mapa-refresh-operator:0.1.0,registry.example/mapa-job-runner:0.1.0 \\
             --database-url postgres://mapa:secret@10.0.0.5/radar --cache-url redis://:secret@10.0.0.6";

/// Brings up a Kubernetes, a seeded PostgreSQL, a Redis and the operator, applies a policy, and shows what becomes of it.
#[derive(Parser)]
#[command(name = "cargo demo", after_help = EXAMPLES)]
struct Arguments {
    /// End after the print; the exit code is 1 if the policy did not become compliant
    #[arg(long)]
    exit: bool,

    /// Use the cluster of this context of your kubeconfig instead of making one
    #[arg(long, value_name = "NAME", requires_all = ["images", "database_url", "cache_url"])]
    context: Option<String>,

    /// With --context: images of the operator and of the job-runner, which that cluster can pull
    #[arg(long, value_name = "OPERATOR,RUNNER", requires = "context")]
    images: Option<Images>,

    /// With --context: PostgreSQL with the view, prepared with `job-runner schema`; reachable from that cluster's pods
    #[arg(long, value_name = "URL", requires = "context")]
    database_url: Option<String>,

    /// With --context: Redis, reachable from that cluster's pods and from here
    #[arg(long, value_name = "URL", requires = "context")]
    cache_url: Option<String>,
}

/// The two images of a release.
#[derive(Clone, Debug)]
struct Images {
    operator: String,
    runner: String,
}

impl std::str::FromStr for Images {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        match text.split(',').collect::<Vec<_>>().as_slice() {
            [operator, runner] if !operator.is_empty() && !runner.is_empty() => Ok(Self {
                operator: (*operator).to_owned(),
                runner: (*runner).to_owned(),
            }),
            _ => Err("write the operator's image, a comma, and the job-runner's image"),
        }
    }
}

/// `println!` that does not panic on a closed stdout: the terminal may be gone, and everything that was started has to end in order.
macro_rules! print_line {
    ($($part:tt)*) => {{
        let _ = writeln!(std::io::stdout(), $($part)*);
    }};
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match interrupt::listen().and_then(|()| demo(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let Some(signal) = interrupt::signalled() else {
                progress::say(&format!("demo: {error}"));
                return ExitCode::FAILURE;
            };
            // The exit status by which shells report the end by a signal.
            ExitCode::from(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX))
        }
    }
}

/// Runs the demo; returns whether the policy became compliant.
fn demo(arguments: &Arguments) -> Result<bool> {
    scratch::clean_up_after_the_dead();
    let (world, whole) = match &arguments.context {
        Some(context) => {
            let whole = Whole::new(&[HELM, OPERATOR, COMPLIANCE]);
            (World::existing(context, arguments, &whole)?, whole)
        }
        None => {
            let whole = Whole::new(&[
                PACKAGES, DOWNLOADS, KUBERNETES, CLUSTER, IMAGES, HELM, OPERATOR, COMPLIANCE,
            ]);
            (World::new(&whole)?, whole)
        }
    };
    let ready = Instant::now();
    world
        .kubectl
        .apply(&format!("{}---\n{}", world.secrets(), world.policy.manifest("")))?;
    progress::say(&format!(
        "applied the policy {}/{}; its tasks run at every full minute",
        world.policy.namespace, world.policy.name
    ));

    let compliant = whole.part(COMPLIANCE, || world.wait_until_compliant());
    drop(whole);
    interrupt::check("waited for the policy to be compliant")?;
    if let Err(error) = &compliant {
        progress::say(&error.to_string());
    }
    world.print(ready.elapsed())?;
    if !arguments.exit {
        world.tell_how_to_look_around();
        // Everything ends in order as the values are dropped.
        interrupt::wait();
    }
    Ok(compliant.is_ok())
}

/// Everything that runs. The order of the fields is the order of the end.
struct World {
    node: Option<Node>,
    stores: Stores,
    _plane: Option<ControlPlane>,
    kubectl: Kubectl,
    kubeconfig: PathBuf,
    policy: Example,
    _leftovers: Leftovers,
    _folder: Scratch,
}

/// What was made in somebody's cluster and goes again, whatever happens: the last made first. A cluster of our own ends as a whole.
#[derive(Default)]
struct Leftovers(Vec<Leftover>);

enum Leftover {
    Object(Kubectl, &'static str, &'static str),
    Release(Helm, &'static str),
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        interrupt::shielded(|| self.delete());
    }
}

impl Leftovers {
    fn delete(&mut self) {
        while let Some(leftover) = self.0.pop() {
            let (what, gone) = match &leftover {
                Leftover::Object(kubectl, kind, name) => {
                    let what = format!("{kind} {name}");
                    let delete = || kubectl.run(["delete", kind, name, "--ignore-not-found"]);
                    let gone = progress::during(&format!("deleting {what}"), delete);
                    (what, gone)
                }
                Leftover::Release(helm, namespace) => {
                    let what = format!("the release {RELEASE}");
                    let uninstall = || helm.run(["uninstall", RELEASE, "--ignore-not-found", "--namespace", namespace]);
                    let gone = progress::during(&format!("uninstalling {what}"), uninstall);
                    (what, gone)
                }
            };
            if let Err(error) = gone {
                progress::say(&format!("{what} is left: {error}"));
            }
        }
    }
}

enum Stores {
    Own { database: Postgres, cache: Redis },
    Given { database_url: String, cache_url: String },
}

impl World {
    fn new(whole: &Whole) -> Result<Self> {
        if !process::is_root() {
            return Err(Error::new(
                "a node on which pods run needs root",
                "run as root, or use an existing cluster: cargo demo --context NAME (see cargo demo --help)",
            ));
        }
        let folder = Scratch::new("demo")?;
        // What the network keeps busy runs beside what the processor keeps busy.
        side_by_side(
            || {
                whole.part(PACKAGES, || packages::ensure(&packages::of_the_demo()))?;
                whole.part(DOWNLOADS, || {
                    images::download()?;
                    // Small, and the cluster would wait for it behind the large ones.
                    images::pause()?;
                    assets::download_helm()
                })
            },
            || whole.part(KUBERNETES, Assets::find),
        )?;
        let ((node, stores, plane), (archives, helm)) = side_by_side(
            || whole.part(CLUSTER, start_cluster),
            || {
                let archives = whole.part(IMAGES, || Ok([images::job_runner()?, images::operator()?]))?;
                Ok((archives, whole.part(HELM, assets::helm)?))
            },
        )?;
        let kubectl = plane.kubectl();
        let kubeconfig = plane.kubeconfig().to_owned();
        let policy = Example::every_minute("radar", "roraima");
        let images = Images {
            operator: images::OPERATOR.to_owned(),
            runner: images::JOB_RUNNER.to_owned(),
        };
        whole.part(OPERATOR, || {
            for archive in &archives {
                node.import(archive)?;
            }
            kubectl.namespace(&policy.namespace)?;
            install(&Helm::of(helm, Some(&kubeconfig)), OPERATOR_NAMESPACE, &images, &[])
        })?;
        Ok(Self {
            node: Some(node),
            stores,
            _plane: Some(plane),
            kubectl,
            kubeconfig,
            policy,
            _leftovers: Leftovers::default(),
            _folder: folder,
        })
    }

    fn existing(context: &str, arguments: &Arguments, whole: &Whole) -> Result<Self> {
        let folder = Scratch::new("demo")?;
        let kubeconfig = folder.path().join("kubeconfig");
        let mut view = Command::new("kubectl");
        view.args(["config", "view", "--raw", "--flatten", "--minify", "--context", context]);
        std::fs::write(
            &kubeconfig,
            process::output(&format!("read the context {context}"), &mut view)?,
        )
        .step_at("write", &kubeconfig)?;
        let kubectl = Kubectl::new("kubectl".into(), kubeconfig.clone());
        let given = |value: &Option<String>| value.clone().unwrap_or_default();
        let helm = whole.part(HELM, || Helm::new(Some(&kubeconfig)))?;
        let images = arguments
            .images
            .as_ref()
            .ok_or_else(|| Error::new("--context", "needs --images"))?;
        // What cannot be asked is not taken for absent: what is absent is made by the demo, and deleted when it ends.
        let is_there = |kind: &str, name: &str| {
            let named = kubectl.run(["get", kind, name, "--ignore-not-found", "--output=name"])?;
            Ok(!named.trim().is_empty())
        };
        if is_there("namespace", NAMESPACE_IN_EXISTING)? {
            return Err(Error::new(
                format!("the namespace {NAMESPACE_IN_EXISTING} is there already, and the demo deletes it when it ends"),
                format!(
                    "if an earlier demo left it: kubectl --context {context} delete namespace {NAMESPACE_IN_EXISTING}"
                ),
            ));
        }
        let mut leftovers = Leftovers::default();
        let has_crd = is_there("crd", CRD)?;
        if !has_crd {
            leftovers.0.push(Leftover::Object(kubectl.clone(), "crd", CRD));
        }
        let namespace = Leftover::Object(kubectl.clone(), "namespace", NAMESPACE_IN_EXISTING);
        leftovers.0.push(namespace);
        kubectl.namespace(NAMESPACE_IN_EXISTING)?;
        leftovers.0.push(Leftover::Release(helm.clone(), NAMESPACE_IN_EXISTING));
        // Nothing of the cluster's beside the definition, and that only if it is not there.
        let narrow = [
            format!("--set=watchNamespaces={{{NAMESPACE_IN_EXISTING}}}"),
            format!("--set=crds.install={}", !has_crd),
        ];
        whole.part(OPERATOR, || install(&helm, NAMESPACE_IN_EXISTING, images, &narrow))?;
        Ok(Self {
            node: None,
            stores: Stores::Given {
                database_url: given(&arguments.database_url),
                cache_url: given(&arguments.cache_url),
            },
            _plane: None,
            kubectl,
            kubeconfig,
            policy: Example {
                key_prefix: NAMESPACE_IN_EXISTING.to_owned(),
                ..Example::every_minute(NAMESPACE_IN_EXISTING, "roraima")
            },
            _leftovers: leftovers,
            _folder: folder,
        })
    }

    fn secrets(&self) -> String {
        match &self.stores {
            Stores::Own { database, cache } => {
                let host = self.node.as_ref().map_or("127.0.0.1", Node::host_address);
                self.policy.secrets(&database.url(host), &cache.url(host))
            }
            Stores::Given {
                database_url,
                cache_url,
            } => self.policy.secrets_of_urls(database_url, cache_url),
        }
    }

    fn wait_until_compliant(&self) -> Result<()> {
        let mut told = Vec::new();
        wait::until("the policy to be compliant", COMPLIANT_WITHIN, || {
            let policy: Value = match self.kubectl.run([
                "-n",
                &self.policy.namespace,
                "get",
                "mapa-refresh",
                &self.policy.name,
                "-o",
                "json",
            ]) {
                Ok(json) => serde_json::from_str(&json).unwrap_or_default(),
                Err(error) => return Look::Saw(error.to_string()),
            };
            for line in news(&policy) {
                if !told.contains(&line) {
                    progress::say(&line);
                    told.push(line);
                }
            }
            let compliant = condition(&policy, "Compliant");
            if compliant["status"] == "True" {
                Look::Met(())
            } else {
                Look::Saw(compliant["message"].to_string())
            }
        })
    }

    fn print(&self, took: Duration) -> Result<()> {
        let namespace = &self.policy.namespace;
        let show = |title: &str, arguments: &[&str]| -> Result<()> {
            print_line!("\n$ kubectl -n {namespace} {title}");
            let all: Vec<&str> = ["-n", namespace].into_iter().chain(arguments.iter().copied()).collect();
            print_line!("{}", self.kubectl.run(all)?.trim_end());
            Ok(())
        };
        print_line!("\n{:.0} s after the cluster was ready:", took.as_secs_f64());
        show("get mapa-refresh", &["get", "mapa-refresh"])?;
        show("get cronjobs", &["get", "cronjobs"])?;
        let statistics = self.published(&format!("{}:estatisticas", self.policy.key_prefix))?;
        print_line!("\n$ redis-cli GET {}:estatisticas", self.policy.key_prefix);
        match serde_json::from_str::<Value>(&statistics) {
            Ok(Value::Object(document)) => {
                let contract = [
                    "dataAsOf",
                    "publishedAt",
                    "total_interrupcoes",
                    "total_ucs_afetadas",
                    "chi_total",
                    "equipes_em_campo",
                    "por_faixa",
                    "por_municipio",
                ];
                let shown: serde_json::Map<String, Value> = contract
                    .iter()
                    .filter_map(|key| Some(((*key).to_owned(), document.get(*key)?.clone())))
                    .collect();
                print_line!("{}", serde_json::to_string_pretty(&shown).unwrap_or_default());
            }
            _ => print_line!("(nothing published)"),
        }
        Ok(())
    }

    /// What the cache holds under `key`; nothing when there is no such key.
    fn published(&self, key: &str) -> Result<String> {
        match &self.stores {
            Stores::Own { cache, .. } => cache.command(&["GET", key]),
            // Not by redis-cli: it takes `redis://:password@host` for the password of a user without a name.
            Stores::Given { cache_url, .. } => ::redis::Client::open(cache_url.as_str())
                .and_then(|client| client.get_connection_with_timeout(CACHE_WITHIN))
                .and_then(|mut cache| ::redis::cmd("GET").arg(key).query::<Option<String>>(&mut cache))
                .map(Option::unwrap_or_default)
                .step("read what was published"),
        }
    }

    fn operator_namespace(&self) -> &str {
        match &self.stores {
            Stores::Own { .. } => OPERATOR_NAMESPACE,
            Stores::Given { .. } => NAMESPACE_IN_EXISTING,
        }
    }

    fn tell_how_to_look_around(&self) {
        print_line!("\nIt stays up until Ctrl-C (SIGTERM, SIGHUP). To look around, in another terminal:\n");
        print_line!("  export KUBECONFIG={}", self.kubeconfig.display());
        print_line!("  kubectl -n {} get mapa-refresh -w", self.policy.namespace);
        print_line!(
            "  kubectl -n {} describe mapa-refresh {}",
            self.policy.namespace,
            self.policy.name
        );
        print_line!("  kubectl -n {} get jobs,pods", self.policy.namespace);
        print_line!("  kubectl -n {} logs deployment/{RELEASE}", self.operator_namespace());
        if let Stores::Own { cache, .. } = &self.stores {
            print_line!(
                "  REDISCLI_AUTH={} redis-cli -p {} KEYS '*'",
                redis::PASSWORD,
                cache.port()
            );
        }
    }
}

/// A cluster with a node, and the stores with their data; in the order of their end.
fn start_cluster() -> Result<(Node, Stores, ControlPlane)> {
    let plane = ControlPlane::start()?;
    let node = Node::start(&plane)?;
    let database = Postgres::start()?;
    progress::during("loading 15 municipalities and 341 outages", || seed::load(&database))?;
    let stores = Stores::Own {
        database,
        cache: Redis::start()?,
    };
    Ok((node, stores, plane))
}

/// The operator by its chart, and with it the CustomResourceDefinition.
fn install(helm: &Helm, namespace: &str, images: &Images, further: &[String]) -> Result<()> {
    let mut arguments = [
        "install",
        RELEASE,
        &chart().display().to_string(),
        "--namespace",
        namespace,
        "--create-namespace",
        "--wait",
        "--timeout=90s",
    ]
    .map(str::to_owned)
    .to_vec();
    arguments.extend(image_arguments(&images.operator, &images.runner));
    arguments.extend_from_slice(further);
    progress::during("installing the operator with its chart", || helm.run(&arguments)).map(drop)
}

/// What is worth telling about the policy, one line each.
fn news(policy: &Value) -> Vec<String> {
    let tasks = policy
        .pointer("/status/tasks")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let mut lines: Vec<String> = tasks
        .iter()
        .filter_map(|task| {
            let name = task["name"].as_str()?;
            if let Some(at) = task["lastSuccessTime"].as_str() {
                return Some(format!(
                    "{name}: succeeded at {at}, {} rows, {} s",
                    task["records"], task["lastDurationSeconds"]
                ));
            }
            let error = task.get("lastError")?;
            Some(format!(
                "{name}: failed: {}: {}",
                error["code"].as_str()?,
                error["message"].as_str()?
            ))
        })
        .collect();
    let ready = condition(policy, "Ready");
    if ready["status"] == "False" {
        lines.push(format!(
            "not ready: {}: {}",
            ready["reason"].as_str().unwrap_or_default(),
            ready["message"].as_str().unwrap_or_default()
        ));
    }
    lines
}

fn condition<'a>(policy: &'a Value, type_: &str) -> &'a Value {
    let conditions = policy
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    conditions
        .iter()
        .find(|condition| condition["type"] == type_)
        .unwrap_or(&Value::Null)
}
