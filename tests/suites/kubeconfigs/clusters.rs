//! Where the API server is, and by what it is believed.

use std::time::Duration;

use mapa_refresh_tests::{
    pki::Pki,
    process::free_port,
    wait::{self, Look},
};
use serde_json::{Value, json};

use crate::{
    proxy::{Protocol, Proxy},
    world::{OF_DEFAULT, Test, World, base64, kubeconfig},
};

pub const TESTS: &[Test] = &[
    (
        "authorities_are_taken_from_a_file_and_from_data_in_every_form",
        authorities,
    ),
    ("a_server_that_is_not_believed_is_not_asked", disbelieved),
    ("a_server_may_be_its_own_authority", self_signed),
    (
        "the_name_of_the_certificate_may_be_another_than_that_of_the_server",
        names,
    ),
    ("a_server_has_a_prefix_a_trailing_slash_or_no_tls", servers),
];

fn with(world: &World, more: &Value) -> Value {
    let mut cluster = json!({ "server": world.plane.server() });
    for (key, value) in more.as_object().unwrap() {
        cluster[key] = value.clone();
    }
    kubeconfig(&cluster, &world.user())
}

/// An authority that has signed nothing here.
fn stranger(world: &World, name: &str) -> String {
    let folder = world.plane.folder().join("stranger").join(name);
    let pki = Pki::new(folder).unwrap();
    std::fs::read_to_string(pki.path("ca.crt")).unwrap()
}

fn authorities(world: &World) {
    let ours = world.pem("ca.crt");
    let bundle = format!("# Words.\n{}\nsubject=/CN=x\n{ours}", stranger(world, "bundle"));
    let broken = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    for (name, pem) in [
        ("plain", ours.clone()),
        ("without-end", ours.trim_end().to_owned()),
        ("windows", ours.replace('\n', "\r\n")),
        ("bundle", bundle.clone()),
        ("bundle-windows", bundle.replace('\n', "\r\n")),
        ("one-is-broken", format!("{broken}{ours}")),
    ] {
        let case = world.case(&format!("authority-file-{name}"));
        case.file("ca.pem", &pem);
        case.with(&with(world, &json!({ "certificate-authority": "ca.pem" })))
            .works(OF_DEFAULT);
        let data = with(world, &json!({ "certificate-authority-data": base64(&pem) }));
        world
            .case(&format!("authority-data-{name}"))
            .with(&data)
            .works(OF_DEFAULT);
    }
}

fn disbelieved(world: &World) {
    let other = with(
        world,
        &json!({ "certificate-authority-data": base64(&stranger(world, "other")) }),
    );
    world.case("authority-of-another").with(&other).fails(&["certificate"]);
    world
        .case("authority-of-the-machine")
        .with(&with(world, &json!({})))
        .fails(&["certificate"]);
    let none = with(world, &json!({ "certificate-authority-data": base64("none") }));
    world
        .case("authority-none")
        .with(&none)
        .fails(&["no certificate in PEM"]);
    let both = json!({ "certificate-authority": world.pki("ca.crt"), "certificate-authority-data": "eA==" });
    world
        .case("authority-twice")
        .with(&with(world, &both))
        .fails(&["are both there"]);
    let unchecked = json!({ "insecure-skip-tls-verify": true });
    world
        .case("authority-unchecked")
        .with(&with(world, &unchecked))
        .works(OF_DEFAULT);
    let contradiction = json!({ "insecure-skip-tls-verify": true, "certificate-authority": world.pki("ca.crt") });
    world
        .case("authority-and-unchecked")
        .with(&with(world, &contradiction))
        .fails(&["insecure-skip-tls-verify goes with no"]);
}

fn self_signed(world: &World) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    let port = free_port().unwrap();
    let arguments = [
        "proxy".to_owned(),
        format!("--port={port}"),
        "--accept-hosts=.*".to_owned(),
    ];
    let _plain = world
        .kubectl()
        .start("fronted", &arguments, world.plane.folder())
        .unwrap();
    wait_for(port);
    for (name, is_ca, names, trusted) in [
        (
            "authority",
            IsCa::Ca(BasicConstraints::Unconstrained),
            ["127.0.0.1"],
            true,
        ),
        ("leaf", IsCa::ExplicitNoCa, ["127.0.0.1"], true),
        ("silent", IsCa::NoCa, ["127.0.0.1"], true),
        (
            "other-name",
            IsCa::Ca(BasicConstraints::Unconstrained),
            ["kubernetes.test"],
            false,
        ),
    ] {
        let case = world.case(&format!("self-signed-{name}"));
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names.map(str::to_owned)).unwrap();
        params.is_ca = is_ca;
        let certificate = params.self_signed(&key).unwrap().pem();
        case.file("proxy.crt", &certificate);
        case.file("proxy.key", &key.serialize_pem());
        let front = Proxy::start(Protocol::Front, ([127, 0, 0, 1], port).into(), None, &case.folder);
        let server = format!("https://{}", front.address);
        let believed = json!({ "server": server, "certificate-authority": "proxy.crt" });
        let case = case.with(&kubeconfig(&believed, &world.user()));
        if trusted {
            case.works(OF_DEFAULT);
        } else {
            case.fails(&["certificate"]);
        }
        let other = json!({ "server": server, "certificate-authority": world.pki("ca.crt") });
        world
            .case(&format!("self-signed-{name}-disbelieved"))
            .with(&kubeconfig(&other, &world.user()))
            .fails(&["certificate"]);
    }
}

/// Waits until something listens.
fn wait_for(port: u16) {
    wait::until(
        "kubectl proxy",
        Duration::from_secs(15),
        || match std::net::TcpStream::connect(("127.0.0.1", port)) {
            Ok(_) => Look::Met(()),
            Err(error) => Look::Saw(error.to_string()),
        },
    )
    .unwrap();
}

fn names(world: &World) {
    let beyond = world.cluster_beyond_loopback();
    world
        .case("name-given")
        .with(&kubeconfig(&beyond, &world.user()))
        .works(OF_DEFAULT);
    let mut unnamed = beyond.clone();
    unnamed["tls-server-name"] = json!(null);
    world
        .case("name-of-the-server")
        .with(&kubeconfig(&unnamed, &world.user()))
        .fails(&["certificate"]);
    let mut by_name = beyond;
    by_name["tls-server-name"] = json!("kubernetes.default.svc");
    world
        .case("name-of-dns")
        .with(&kubeconfig(&by_name, &world.user()))
        .works(OF_DEFAULT);
    let localhost = json!({
        "server": world.plane.server().replace("127.0.0.1", "LOCALHOST"), "certificate-authority": world.pki("ca.crt"),
    });
    world
        .case("name-in-capitals")
        .with(&kubeconfig(&localhost, &world.user()))
        .works(OF_DEFAULT);
}

fn servers(world: &World) {
    let authority = json!({ "certificate-authority": world.pki("ca.crt") });
    let mut slash = with(world, &authority);
    slash["clusters"][0]["cluster"]["server"] = json!(format!("{}/", world.plane.server()));
    slash["clusters"][0]["cluster"]["disable-compression"] = json!(true);
    world.case("server-slash").with(&slash).works(OF_DEFAULT);
    let closed = json!({ "server": "https://127.0.0.1:1" });
    world
        .case("server-closed")
        .with(&kubeconfig(&closed, &world.user()))
        .fails(&["does not answer", "refused"]);
    let odd = json!({ "server": "ftp://x" });
    world
        .case("server-odd")
        .with(&kubeconfig(&odd, &world.user()))
        .fails(&["write https://HOST:PORT"]);

    // In plain text, below a prefix, and without a scheme: no credentials go there.
    let port = free_port().unwrap();
    let arguments = [
        "proxy".to_owned(),
        format!("--port={port}"),
        "--api-prefix=/k8s/c-1/".to_owned(),
    ];
    let folder = world.plane.folder();
    let _prefixed = world.kubectl().start("prefixed", &arguments, folder).unwrap();
    let plain_port = free_port().unwrap();
    let _plain = world
        .kubectl()
        .start("plain", ["proxy".to_owned(), format!("--port={plain_port}")], folder)
        .unwrap();
    wait_for(port);
    wait_for(plain_port);
    for (name, server) in [
        ("prefix", format!("http://127.0.0.1:{port}/k8s/c-1")),
        ("prefix-slash", format!("http://127.0.0.1:{port}/k8s/c-1/")),
        ("plain", format!("http://127.0.0.1:{plain_port}")),
        ("no-scheme", format!("127.0.0.1:{plain_port}")),
    ] {
        let user = json!({ "exec": {
            "command": "nobody-runs-this", "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
        } });
        world
            .case(&format!("server-{name}"))
            .with(&kubeconfig(&json!({ "server": server }), &user))
            .works(OF_DEFAULT);
    }
    let user = world.user();
    let case = world
        .case("server-master")
        .with(&json!({ "users": [{ "name": "x", "user": user }] }));
    case.set("KUBERNETES_MASTER", format!("http://127.0.0.1:{plain_port}"))
        .works(OF_DEFAULT);
}
