//! A node on which pods really run: scheduler, containerd, kubelet and kube-proxy beside a control plane. Needs root.
//!
//! One node at a time runs on a machine (bridge, service addresses and nftables are the machine's own); others wait.

use std::{
    collections::HashSet,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::{
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    Error, Result, assets,
    control_plane::{ControlPlane, HOST_ADDRESS},
    error::Step,
    images, packages,
    process::{self, Process, free_port},
    progress,
    scratch::{OfTheDead, Removed, Scratch, unmount_below},
    wait::{self, Look},
};

const NAME: &str = "node-1";
/// A name of our own: what bears it is ours to delete.
const BRIDGE: &str = "mapa0";
const POD_NETWORK: &str = "10.244.0.0/24";
const NETWORK_NAMESPACES: &str = "/run/netns";
/// Held while a node is alive.
const LOCK: &str = "/run/lock/mapa-refresh-node.lock";
/// What a node's folder is for.
pub(crate) const KIND: &str = "node";
const READY_WITHIN: Duration = Duration::from_secs(90);

/// A running node. It ends, and leaves nothing, when it is dropped.
pub struct Node {
    // The order of the fields is the order of the end.
    processes: Vec<Process>,
    traces: Traces,
    folder: Scratch,
    _lock: File,
}

impl Node {
    /// Starts a node beside `plane` and waits until it is Ready.
    ///
    /// # Errors
    /// A part is missing or does not start; with the end of its log.
    pub fn start(plane: &ControlPlane) -> Result<Self> {
        packages::ensure(packages::NODE)?;
        packages::ensure(packages::IMAGES)?;
        let pause = images::pause()?;
        let lock = assets::lock(Path::new(LOCK))?;
        remove_dead_nodes();
        refuse_beside_another_node()?;
        progress::during("starting scheduler, containerd, kubelet and kube-proxy", || {
            let folder = Scratch::new(KIND)?;
            let traces = Traces {
                network_namespaces: network_namespaces(),
                folder: folder.path().to_owned(),
            };
            traces.remember()?;
            let mut node = Self {
                processes: Vec::new(),
                traces,
                folder,
                _lock: lock,
            };
            node.make_bridge()?;
            node.start_containerd()?;
            node.import(&pause)?;
            node.start_scheduler(plane)?;
            node.start_kubelet(plane)?;
            node.start_kube_proxy(plane)?;
            node.wait_until_ready(plane)?;
            Ok(node)
        })
    }

    /// Address at which pods reach servers on this machine.
    #[must_use]
    pub fn host_address(&self) -> &'static str {
        HOST_ADDRESS
    }

    /// Imports an OCI archive, so that pods can use its image.
    ///
    /// # Errors
    /// containerd refuses it.
    pub fn import(&self, archive: &Path) -> Result<()> {
        let mut import = self.ctr();
        import.args(["images", "import"]).arg(archive);
        process::output("import an image", &mut import).map(drop)
    }

    /// The kubelet's process, to stop and continue it.
    #[must_use]
    pub fn kubelet(&self) -> Option<&Process> {
        self.processes.get(2)
    }

    fn ctr(&self) -> Command {
        let mut ctr = Command::new("ctr");
        ctr.arg("-a").arg(self.path("c.sock")).args(["-n", "k8s.io"]);
        ctr
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&mut self, name: &str, command: &Command) -> Result<()> {
        let process = Process::start(name, command, self.folder.path())?;
        self.processes.push(process);
        Ok(())
    }

    fn make_bridge(&self) -> Result<()> {
        let ip = |arguments: &[&str]| process::output("make the pods' bridge", Command::new("ip").args(arguments));
        if !Path::new("/sys/class/net").join(BRIDGE).exists() {
            ip(&["link", "add", BRIDGE, "type", "bridge"])?;
            ip(&["addr", "add", &format!("{HOST_ADDRESS}/24"), "dev", BRIDGE])?;
        }
        ip(&["link", "set", BRIDGE, "up"])?;
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").step("allow forwarding to pods")
    }

    fn start_containerd(&mut self) -> Result<()> {
        let folder = self.folder.path().display().to_string();
        let network = serde_json::json!({ "cniVersion": "0.4.0", "name": "bridge", "plugins": [
            { "type": "bridge", "bridge": BRIDGE, "isGateway": true, "ipMasq": false, "hairpinMode": true,
              "ipam": { "type": "host-local", "ranges": [[{ "subnet": POD_NETWORK }]], "routes": [{ "dst": "0.0.0.0/0" }],
                        "dataDir": format!("{folder}/ipam") } },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ] });
        fs::create_dir_all(self.path("cni")).step("create a folder")?;
        fs::write(self.path("cni/10-bridge.conflist"), network.to_string())
            .step("write the network's configuration")?;
        let config = format!(
            r#"version = 2
root = "{folder}/containerd"
state = "{folder}/run"
[grpc]
  address = "{folder}/c.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Without CAP_SYS_RESOURCE runc cannot lower a score and dies.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
"#,
            pause = images::PAUSE
        );
        fs::write(self.path("containerd.toml"), config).step("write containerd's configuration")?;
        let mut containerd = Command::new("containerd");
        containerd.arg("-c").arg(self.path("containerd.toml"));
        self.run("containerd", &containerd)?;
        wait::until("containerd", READY_WITHIN, || {
            match process::output("ctr", self.ctr().arg("version")) {
                Ok(_) => Look::Met(()),
                Err(error) => Look::Saw(error.to_string()),
            }
        })
    }

    fn start_scheduler(&mut self, plane: &ControlPlane) -> Result<()> {
        plane
            .pki()
            .issue("scheduler", "system:kube-scheduler", "kubernetes", &[])?;
        let kubeconfig = plane.pki().kubeconfig("scheduler", &plane.server())?;
        let mut scheduler = plane.assets().command("kube-scheduler");
        scheduler
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .args(["--leader-elect=false", &format!("--secure-port={}", free_port()?)]);
        self.run("kube-scheduler", &scheduler)
    }

    fn start_kubelet(&mut self, plane: &ControlPlane) -> Result<()> {
        let pki = plane.pki();
        pki.issue(
            "node",
            &format!("system:node:{NAME}"),
            "system:nodes",
            &[NAME, "127.0.0.1", HOST_ADDRESS],
        )?;
        let kubeconfig = pki.kubeconfig("node", &plane.server())?;
        let config = serde_json::json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": format!("unix://{}", self.path("c.sock").display()),
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": false,
            "failSwapOn": false,
            "address": "0.0.0.0",
            "port": free_port()?,
            "healthzPort": 0,
            "authentication": { "anonymous": { "enabled": false }, "x509": { "clientCAFile": pki.path("ca.crt") }, "webhook": { "enabled": true } },
            "authorization": { "mode": "Webhook" },
            "tlsCertFile": pki.path("node.crt"),
            "tlsPrivateKeyFile": pki.path("node.key"),
            "resolvConf": "/dev/null",
            "enforceNodeAllocatable": [],
            "cgroupRoot": "/",
            "evictionHard": { "memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
            "imageGCHighThresholdPercent": 100,
            "podLogsDir": self.path("logs"),
            "syncFrequency": "10s",
        });
        fs::write(self.path("kubelet.yaml"), config.to_string()).step("write the kubelet's configuration")?;
        let mut kubelet = plane.assets().command("kubelet");
        kubelet
            .arg(format!("--config={}", self.path("kubelet.yaml").display()))
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .args([
                &format!("--hostname-override={NAME}"),
                &format!("--node-ip={HOST_ADDRESS}"),
            ])
            .arg(format!("--root-dir={}", self.path("kubelet").display()))
            .arg(format!("--cert-dir={}", self.path("kubelet-pki").display()));
        self.run("kubelet", &kubelet)
    }

    fn start_kube_proxy(&mut self, plane: &ControlPlane) -> Result<()> {
        plane.pki().issue("proxy", "system:kube-proxy", "kubernetes", &[])?;
        let config = serde_json::json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": { "kubeconfig": plane.pki().kubeconfig("proxy", &plane.server())? },
            "clusterCIDR": "10.244.0.0/16",
            "bindAddress": "127.0.0.1",
            "healthzBindAddress": format!("127.0.0.1:{}", free_port()?),
            "metricsBindAddress": format!("127.0.0.1:{}", free_port()?),
            "conntrack": { "maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
        });
        fs::write(self.path("kube-proxy.yaml"), config.to_string()).step("write kube-proxy's configuration")?;
        let mut proxy = plane.assets().command("kube-proxy");
        proxy
            .arg(format!("--config={}", self.path("kube-proxy.yaml").display()))
            .arg(format!("--hostname-override={NAME}"));
        self.run("kube-proxy", &proxy)
    }

    fn wait_until_ready(&mut self, plane: &ControlPlane) -> Result<()> {
        let kubectl = plane.kubectl();
        let processes = &mut self.processes;
        wait::until("the node to be Ready", READY_WITHIN, || {
            if let Some(ended) = processes.iter_mut().find_map(|process| process.check().err()) {
                return Look::Never(ended.to_string());
            }
            match kubectl.run(["get", "node", NAME, "--no-headers"]) {
                Ok(line) if line.contains(" Ready") => Look::Met(()),
                Ok(line) => Look::Saw(line),
                Err(error) => Look::Saw(error.to_string()),
            }
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Last started, first stopped: containerd stays until nobody asks for containers any more.
        while let Some(process) = self.processes.pop() {
            drop(process);
        }
        self.traces.remove();
    }
}

/// What a node leaves on the machine beside its processes.
struct Traces {
    folder: PathBuf,
    /// Those that were there before.
    network_namespaces: HashSet<PathBuf>,
}

impl Traces {
    const NAMESPACES: &str = "network-namespaces";

    /// What was there before us, for whoever has to clean up after our death.
    fn remember(&self) -> Result<()> {
        let names: Vec<String> = self
            .network_namespaces
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        fs::write(self.folder.join(Self::NAMESPACES), names.join("\n")).step("write down the network namespaces")
    }

    fn of_the_dead(folder: PathBuf) -> Self {
        let names = fs::read_to_string(folder.join(Self::NAMESPACES));
        // Without the list nothing is ours for certain.
        let network_namespaces = names.map_or_else(
            |_| network_namespaces(),
            |names| names.lines().map(PathBuf::from).collect(),
        );
        Self {
            folder,
            network_namespaces,
        }
    }

    fn remove(&self) {
        kill_shims(&self.folder);
        for namespace in network_namespaces().difference(&self.network_namespaces) {
            let _ = umount2(namespace, MntFlags::MNT_DETACH);
            let _ = fs::remove_file(namespace);
        }
        unmount_below(&self.folder);
        remove_what_bears_our_names();
    }
}

fn network_namespaces() -> HashSet<PathBuf> {
    let entries = fs::read_dir(NETWORK_NAMESPACES).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().contains("/cni-"))
        .collect()
}

fn quietly(program: &str, arguments: &[&str]) {
    // What is not there needs no removal.
    let _ = Command::new(program).args(arguments).output();
}

/// Kills the shims that speak to our containerd, and the containers below them.
fn kill_shims(folder: &Path) {
    let processes: Vec<(i32, i32, String)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let id: i32 = entry.file_name().to_str()?.parse().ok()?;
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name in parentheses may hold spaces; the parent is the second field after it.
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((id, parent, String::from_utf8_lossy(&command).replace('\0', " ")))
        })
        .collect();
    let socket = folder.join("c.sock").display().to_string();
    let is_shim = |command: &str| command.contains("containerd-shim") && command.contains(&socket);
    let mut doomed: Vec<i32> = processes
        .iter()
        .filter(|(_, _, command)| is_shim(command))
        .map(|(id, _, _)| *id)
        .collect();
    let mut next = 0;
    while let Some(parent) = doomed.get(next).copied() {
        doomed.extend(
            processes
                .iter()
                .filter(|(_, of, _)| *of == parent)
                .map(|(id, _, _)| *id),
        );
        next += 1;
    }
    for id in doomed {
        let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
    }
}

/// cgroup folders are removed from the leaves up; those with processes stay.
fn remove_cgroups() {
    fn remove(folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path());
            }
        }
        let _ = fs::remove_dir(folder);
    }
    let roots = fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("kubepods"));
    for root in roots.chain([PathBuf::from("/sys/fs/cgroup/kubepods")]) {
        if root.is_dir() {
            remove(&root);
        }
    }
}

/// Whether a node is alive on this machine.
#[must_use]
pub fn is_alive() -> bool {
    Path::new(LOCK).exists() && assets::lock_if_free(Path::new(LOCK)).is_none()
}

/// Removes what nodes have left whose processes were killed, unless another node is alive, which has done that already.
#[must_use]
pub fn clean_up_after_the_dead() -> Removed {
    match assets::lock_if_free(Path::new(LOCK)) {
        Some(_lock) => remove_dead_nodes(),
        None => Removed::default(),
    }
}

/// Removes what they have left; the lock of nodes is held.
fn remove_dead_nodes() -> Removed {
    let mut removed = Removed::default();
    for dead in OfTheDead::find(&std::env::temp_dir(), |kind| kind == KIND) {
        Traces::of_the_dead(dead.path().to_owned()).remove();
        removed += dead.remove();
    }
    if Path::new("/sys/class/net").join(BRIDGE).exists() {
        // Its folder is gone, or was made where we do not look.
        remove_what_bears_our_names();
    }
    removed
}

fn remove_what_bears_our_names() {
    quietly("ip", &["link", "delete", BRIDGE]);
    quietly("nft", &["delete", "table", "ip", "kube-proxy"]);
    quietly("nft", &["delete", "table", "ip6", "kube-proxy"]);
    remove_cgroups();
}

/// Bridge address and kube-proxy's tables are the machine's own: a node of somebody else's would break, so we do not start.
fn refuse_beside_another_node() -> Result<()> {
    const STEP: &str = "start a node";
    let remedy = "use its cluster instead (cargo demo --context NAME), or a machine without a Kubernetes node";
    let tables = process::output(STEP, Command::new("nft").args(["list", "tables"])).unwrap_or_default();
    if tables.contains("kube-proxy") {
        return Err(Error::new(
            STEP,
            format!("another kube-proxy works on this machine; {remedy}"),
        ));
    }
    let addresses = process::output(STEP, Command::new("ip").args(["-o", "-4", "addr"]))?;
    if addresses
        .lines()
        .any(|line| line.contains(&format!(" {HOST_ADDRESS}/")) && !line.contains(BRIDGE))
    {
        return Err(Error::new(
            STEP,
            format!("{HOST_ADDRESS} is taken by another network; {remedy}"),
        ));
    }
    Ok(())
}
