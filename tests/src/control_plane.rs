//! etcd, the API server and the controller-manager, on free ports, without root.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::{Client, Config, config::Kubeconfig};

use crate::{
    Result,
    assets::Assets,
    error::Step,
    kubectl::Kubectl,
    pki::Pki,
    process::{Process, free_port},
    progress,
    scratch::Scratch,
    wait::{self, Look},
};

/// Address of the node's bridge, at which pods reach what runs on the host.
pub const HOST_ADDRESS: &str = "10.244.0.1";
/// First address of the Services: the API server's own.
const KUBERNETES_SERVICE: &str = "10.96.0.1";
const READY_WITHIN: Duration = Duration::from_secs(90);

/// A control plane. It ends when it is dropped.
pub struct ControlPlane {
    assets: Assets,
    port: u16,
    etcd_port: u16,
    pki: Pki,
    admin: PathBuf,
    api_server: Mutex<Option<Process>>,
    controller_manager: Mutex<Option<Process>>,
    etcd: Option<Process>,
    folder: Scratch,
}

impl ControlPlane {
    /// Starts one and waits until the API server is ready.
    ///
    /// # Errors
    /// A part cannot be built or started; with the end of its log.
    pub fn start() -> Result<Self> {
        let assets = Assets::find()?;
        progress::during("starting etcd, API server and controller-manager", || {
            let folder = Scratch::new("k8s")?;
            let pki = Pki::new(folder.path().join("pki"))?;
            let api_names = [
                "localhost",
                "kubernetes",
                "kubernetes.default.svc",
                "127.0.0.1",
                KUBERNETES_SERVICE,
                HOST_ADDRESS,
            ];
            pki.issue("apiserver", "kube-apiserver", "kubernetes", &api_names)?;
            pki.issue("kubelet-client", "kube-apiserver-kubelet-client", "system:masters", &[])?;
            pki.issue("admin", "admin", "system:masters", &[])?;
            pki.issue(
                "controller-manager",
                "system:kube-controller-manager",
                "kubernetes",
                &[],
            )?;
            let port = free_port()?;
            let admin = pki.kubeconfig("admin", &server(port))?;
            let mut plane = Self {
                assets,
                port,
                etcd_port: free_port()?,
                pki,
                admin,
                api_server: Mutex::default(),
                controller_manager: Mutex::default(),
                etcd: None,
                folder,
            };
            plane.start_etcd()?;
            plane.start_api_server()?;
            plane.start_controller_manager()?;
            Ok(plane)
        })
    }

    /// The admin's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.admin
    }

    /// The URL of the API server.
    #[must_use]
    pub fn server(&self) -> String {
        server(self.port)
    }

    /// The certificates.
    #[must_use]
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// The binaries.
    #[must_use]
    pub fn assets(&self) -> &Assets {
        &self.assets
    }

    /// The folder that holds everything.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// kubectl for the admin.
    #[must_use]
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(self.assets.path("kubectl"), self.admin.clone())
    }

    /// A client for the admin.
    ///
    /// # Errors
    /// The kubeconfig cannot be read.
    pub async fn client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(&self.admin).step_at("read", &self.admin)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &Default::default())
            .await
            .step("read the kubeconfig")?;
        Client::try_from(config).step("make a client")
    }

    /// Starts the controller-manager, if it is stopped.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_controller_manager(&self) -> Result<()> {
        let kubeconfig = self.pki.kubeconfig("controller-manager", &self.server())?;
        let mut command = self.assets.command("kube-controller-manager");
        command
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(format!(
                "--service-account-private-key-file={}",
                self.pki.path("sa.key").display()
            ))
            .arg(format!("--root-ca-file={}", self.pki.path("ca.crt").display()))
            .args([
                "--use-service-account-credentials=true",
                "--leader-elect=false",
                "--allocate-node-cidrs=false",
            ])
            .arg(format!("--secure-port={}", free_port()?));
        let process = Process::start("kube-controller-manager", &command, self.folder.path())?;
        *self.controller_manager() = Some(process);
        Ok(())
    }

    /// Kills the controller-manager.
    pub fn stop_controller_manager(&self) {
        *self.controller_manager() = None;
    }

    fn controller_manager(&self) -> MutexGuard<'_, Option<Process>> {
        self.controller_manager.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn api_server(&self) -> MutexGuard<'_, Option<Process>> {
        self.api_server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the API server, if it is stopped, and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started; with the end of its log.
    pub fn start_api_server(&self) -> Result<()> {
        let file = |flag: &str, name: &str| format!("--{flag}={}", self.pki.path(name).display());
        let mut command = self.assets.command("kube-apiserver");
        command
            .arg(format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port))
            .arg(format!("--secure-port={}", self.port))
            .args(["--bind-address=0.0.0.0", &format!("--advertise-address={HOST_ADDRESS}")])
            .args([
                file("client-ca-file", "ca.crt"),
                file("tls-cert-file", "apiserver.crt"),
                file("tls-private-key-file", "apiserver.key"),
            ])
            .args([
                file("service-account-key-file", "sa.pub"),
                file("service-account-signing-key-file", "sa.key"),
            ])
            .args([
                file("kubelet-client-certificate", "kubelet-client.crt"),
                file("kubelet-client-key", "kubelet-client.key"),
            ])
            .args([
                "--service-account-issuer=https://kubernetes.default.svc",
                "--service-cluster-ip-range=10.96.0.0/16",
            ])
            .args([
                "--authorization-mode=Node,RBAC",
                // The second is on in OpenShift: who makes an object that blocks its owner's deletion needs a permission for it.
                "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement",
                "--allow-privileged=true",
            ])
            // Admission that changes what is written, as webhooks do elsewhere. On by default from 1.36 on.
            .args([
                "--feature-gates=MutatingAdmissionPolicy=true",
                "--runtime-config=admissionregistration.k8s.io/v1beta1=true",
            ])
            // Else `kubectl logs` asks for the node by a name that nobody resolves.
            .args([
                "--kubelet-preferred-address-types=InternalIP",
                "--shutdown-delay-duration=0",
            ])
            .arg(format!("--audit-policy-file={}", self.audit_policy()?.display()))
            .arg(format!("--audit-log-path={}", self.audit_log().display()))
            // Tests and benches read it from its beginning: at the default of 100 MB it would begin anew.
            .arg("--audit-log-maxsize=65536");
        let mut process = self.api_server();
        *process = Some(Process::start("kube-apiserver", &command, self.folder.path())?);
        let kubectl = self.kubectl();
        wait::until("the API server to be ready", READY_WITHIN, || {
            if let Some(Err(ended)) = process.as_mut().map(Process::check) {
                return Look::Never(ended.to_string());
            }
            match kubectl.run(["get", "--raw", "/readyz"]) {
                Ok(_) => Look::Met(()),
                Err(error) => Look::Saw(error.to_string()),
            }
        })
    }

    /// Kills the API server, which would drain for a minute otherwise.
    pub fn stop_api_server(&self) {
        *self.api_server() = None;
    }

    /// The API server's audit log: one JSON line for each request that is answered.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.folder.path().join("audit.log")
    }

    /// Everything that the audit log has.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn audit_events(&self) -> Result<Vec<serde_json::Value>> {
        let log = std::fs::read(self.audit_log()).step("read the audit log")?;
        // The last line may be half written.
        let lines = log.split(|byte| *byte == b'\n');
        Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }

    fn audit_policy(&self) -> Result<PathBuf> {
        let path = self.folder.path().join("audit-policy.yaml");
        let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived, ResponseStarted]\nrules: [{level: Metadata}]\n";
        std::fs::write(&path, policy).step_at("write", &path)?;
        Ok(path)
    }

    fn start_etcd(&mut self) -> Result<()> {
        let client = format!("http://127.0.0.1:{}", self.etcd_port);
        let peer = format!("http://127.0.0.1:{}", free_port()?);
        let mut command = self.assets.command("etcd");
        command
            .arg("--data-dir")
            .arg(self.folder.path().join("etcd"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args([
                "--initial-cluster",
                &format!("default={peer}"),
                "--unsafe-no-fsync",
                "--log-level",
                "warn",
            ]);
        self.etcd = Some(Process::start("etcd", &command, self.folder.path())?);
        Ok(())
    }
}

fn server(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}
