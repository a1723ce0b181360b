//! The way there: proxies of the kubeconfig and of the environment, and where they are not used.

use std::{net::SocketAddr, time::Duration};

use mapa_refresh_tests::{
    operator::Operator,
    process::free_port,
    wait::{self, Look},
};
use serde_json::{Value, json};

use crate::{
    proxy::{Protocol, Proxy},
    world::{Case, OF_DEFAULT, Test, World, kubeconfig},
};

pub const TESTS: &[Test] = &[
    ("the_proxy_of_the_kubeconfig_is_used_in_every_protocol", of_kubeconfig),
    ("a_proxy_is_asked_for_what_kubectl_asks_it_for", targets),
    ("the_proxy_of_the_environment_is_used_in_every_spelling", of_environment),
    ("no_proxy_exempts_whom_it_exempts_for_kubectl", no_proxy),
    ("a_proxy_that_does_not_serve_is_named", unserved),
    ("what_is_not_within_tls_is_asked_for_at_the_proxy", plain_text),
    ("the_operator_and_its_self_test_go_the_same_way", operator),
];

fn server(world: &World) -> SocketAddr {
    world.plane.server().trim_start_matches("https://").parse().unwrap()
}

fn proxy(world: &World, protocol: Protocol, credentials: Option<(&str, &str)>) -> Proxy {
    let pki = world.plane.pki();
    // Whoever comes first.
    static ISSUED: std::sync::Once = std::sync::Once::new();
    ISSUED.call_once(|| pki.issue("proxy", "proxy", "proxies", &["127.0.0.1"]).unwrap());
    let folder = pki.path("proxy.crt").parent().unwrap().to_owned();
    Proxy::start(protocol, server(world), credentials, &folder)
}

fn scheme(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Https | Protocol::Front => "https",
        Protocol::Socks5 => "socks5",
    }
}

/// A cluster that can be reached only through a proxy.
fn hidden(world: &World, host: &str) -> Value {
    json!({
        "server": format!("https://{host}"), "tls-server-name": "127.0.0.1", "certificate-authority": world.pki("ca.crt"),
    })
}

fn by_url(cluster: &Value, url: &str) -> Value {
    let mut cluster = cluster.clone();
    cluster["proxy-url"] = json!(url);
    cluster
}

/// Both work, and both ask the proxy for the same.
#[track_caller]
fn both_ask(case: &Case<'_>, proxy: &Proxy, expected: &str) {
    let _ = proxy.asked();
    let kubectl = case.kubectl();
    assert!(
        kubectl.names.is_some(),
        "kubectl in {}: {}",
        case.folder.display(),
        kubectl.said
    );
    assert_eq!(proxy.asked(), [expected], "kubectl in {}", case.folder.display());
    let plugin = case.plugin();
    assert_eq!(
        plugin.names,
        kubectl.names,
        "the plugin in {}: {}",
        case.folder.display(),
        plugin.said
    );
    assert_eq!(proxy.asked(), [expected], "the plugin in {}", case.folder.display());
}

fn of_kubeconfig(world: &World) {
    for protocol in [Protocol::Http, Protocol::Https, Protocol::Socks5] {
        let target = match protocol {
            Protocol::Socks5 => "SOCKS kubernetes.test:6443",
            _ => "CONNECT kubernetes.test:6443",
        };
        for (name, credentials, userinfo) in [
            ("open", None, ""),
            ("asking", Some(("radar", "p@ss:w/rd")), "radar:p%40ss%3Aw%2Frd@"),
        ] {
            let proxy = proxy(world, protocol, credentials);
            let url = format!("{}://{userinfo}{}", scheme(protocol), proxy.address);
            let cluster = by_url(&hidden(world, "kubernetes.test:6443"), &url);
            let case = world
                .case(&format!("proxy-{protocol:?}-{name}"))
                .with(&kubeconfig(&cluster, &world.user()));
            // The kubeconfig's proxy wins over the environment's, and nothing is exempt from it.
            let case = case.set("HTTPS_PROXY", "http://127.0.0.1:1").set("NO_PROXY", "*");
            both_ask(&case, &proxy, target);
        }
    }
}

fn targets(world: &World) {
    for (name, host, http, socks) in [
        (
            "name",
            "kubernetes.test",
            "CONNECT kubernetes.test:443",
            "SOCKS kubernetes.test:443",
        ),
        (
            "address",
            "192.0.2.1:6443",
            "CONNECT 192.0.2.1:6443",
            "SOCKS 192.0.2.1:6443",
        ),
        (
            "ipv6",
            "[2001:db8::1]:6443",
            "CONNECT [2001:db8::1]:6443",
            "SOCKS [2001:db8::1]:6443",
        ),
        (
            "prefix",
            "kubernetes.test:6443/",
            "CONNECT kubernetes.test:6443",
            "SOCKS kubernetes.test:6443",
        ),
    ] {
        for (protocol, target) in [(Protocol::Http, http), (Protocol::Socks5, socks)] {
            let proxy = proxy(world, protocol, None);
            let url = format!("{}://{}", scheme(protocol), proxy.address);
            let cluster = by_url(&hidden(world, host), &url);
            let case = world
                .case(&format!("target-{name}-{protocol:?}"))
                .with(&kubeconfig(&cluster, &world.user()));
            both_ask(&case, &proxy, target);
        }
    }
}

fn of_environment(world: &World) {
    const TARGET: &str = "CONNECT kubernetes.test:6443";
    let config = kubeconfig(&hidden(world, "kubernetes.test:6443"), &world.user());
    let proxy_of = |protocol| proxy(world, protocol, None);
    let http = proxy_of(Protocol::Http);
    let asking = proxy(world, Protocol::Http, Some(("u", "p")));
    let socks = proxy_of(Protocol::Socks5);
    let https = proxy_of(Protocol::Https);
    for (name, variable, value, proxy, target) in [
        (
            "upper",
            "HTTPS_PROXY",
            format!("http://{}", http.address),
            &http,
            TARGET,
        ),
        (
            "lower",
            "https_proxy",
            format!("http://{}/", http.address),
            &http,
            TARGET,
        ),
        ("bare", "HTTPS_PROXY", http.address.to_string(), &http, TARGET),
        (
            "credentials",
            "HTTPS_PROXY",
            format!("http://u:p@{}", asking.address),
            &asking,
            TARGET,
        ),
        (
            "bare-credentials",
            "https_proxy",
            format!("u:p@{}", asking.address),
            &asking,
            TARGET,
        ),
        (
            "tls",
            "HTTPS_PROXY",
            format!("https://{}", https.address),
            &https,
            TARGET,
        ),
        (
            "socks5",
            "HTTPS_PROXY",
            format!("socks5://{}", socks.address),
            &socks,
            "SOCKS kubernetes.test:6443",
        ),
        (
            "socks5h",
            "https_proxy",
            format!("socks5h://{}", socks.address),
            &socks,
            "SOCKS kubernetes.test:6443",
        ),
    ] {
        let case = world
            .case(&format!("environment-{name}"))
            .with(&config)
            .set(variable, value);
        both_ask(&case, proxy, target);
        both_ask(
            &case.set("NO_PROXY", "other.test, .kubernetes.test,kubernetes.test:443,"),
            proxy,
            target,
        );
    }
    // An empty variable is none, and the other spelling holds.
    let case = world.case("environment-empty").with(&config).set("HTTPS_PROXY", "");
    both_ask(
        &case.set("https_proxy", format!("http://{}", http.address)),
        &http,
        TARGET,
    );
}

fn no_proxy(world: &World) {
    let proxy = proxy(world, Protocol::Http, None);
    let port = server(world).port();
    let config = kubeconfig(&world.cluster_beyond_loopback(), &world.user());
    let with = |name: &str, config: &Value| {
        let case = world.case(&format!("no-proxy-{name}")).with(config);
        case.set("HTTPS_PROXY", format!("http://{}", proxy.address))
    };
    let goes_straight = |case: Case<'_>| {
        case.works(OF_DEFAULT);
        assert_eq!(proxy.asked(), Vec::<String>::new(), "{}", case.folder.display());
    };
    let target = format!("CONNECT 0.0.0.0:{port}");
    both_ask(&with("none", &config), &proxy, &target);
    let straight = [
        ("all", "*".to_owned()),
        ("address", "example.com, 0.0.0.0".to_owned()),
        ("network", "0.0.0.0/8".to_owned()),
        ("port", format!("0.0.0.0:{port}")),
    ];
    for (name, value) in straight {
        goes_straight(with(name, &config).set("NO_PROXY", &value));
        goes_straight(with(&format!("{name}-lower"), &config).set("no_proxy", &value));
    }
    let proxied = [
        ("other-network", "10.0.0.0/8"),
        ("other-port", "0.0.0.0:1"),
        ("domain", ".0.0.0"),
        ("star", "*.0.0.0"),
    ];
    for (name, value) in proxied {
        both_ask(&with(name, &config).set("NO_PROXY", value), &proxy, &target);
    }
    // What is on this machine is never asked of the environment's proxy.
    for (name, host) in [("loopback", "127.0.0.1"), ("localhost", "localhost")] {
        let mut cluster = world.cluster();
        cluster["server"] = json!(format!("https://{host}:{port}"));
        goes_straight(with(name, &kubeconfig(&cluster, &world.user())));
    }
    // HTTP_PROXY is not for servers within TLS.
    let case = world.case("no-proxy-http").with(&config);
    goes_straight(
        case.set("HTTP_PROXY", "http://127.0.0.1:1")
            .set("ALL_PROXY", "http://127.0.0.1:1"),
    );
}

fn unserved(world: &World) {
    let hidden = hidden(world, "kubernetes.test:6443");
    let at = |name: &str, url: &str| {
        world
            .case(&format!("unserved-{name}"))
            .with(&kubeconfig(&by_url(&hidden, url), &world.user()))
    };
    at("closed", "http://127.0.0.1:1").fails(&["through the proxy http://127.0.0.1:1", "refused"]);
    at("scheme", "ftp://127.0.0.1:1").fails(&["proxy-url must be http://"]);
    at("bare", "127.0.0.1:1").fails(&["proxy-url must be http://"]);
    for protocol in [Protocol::Http, Protocol::Socks5] {
        let asking = proxy(world, protocol, Some(("radar", "secret")));
        let url = |userinfo: &str| format!("{}://{userinfo}{}", scheme(protocol), asking.address);
        let words = format!("through the proxy {}://{}", scheme(protocol), asking.address);
        at(&format!("without-{protocol:?}"), &url("")).fails(&[&words]);
        let wrong = at(&format!("wrong-{protocol:?}"), &url("radar:wrongword@"));
        wrong.fails(&[&words]);
        assert!(!wrong.plugin().said.contains("wrongword"));
        assert_eq!(asking.asked(), Vec::<String>::new());
    }
    // Its certificate is checked by the cluster's authority, as for kubectl.
    let proxy = proxy(world, Protocol::Https, None);
    let url = format!("https://{}", proxy.address);
    let mut cluster = by_url(&hidden, &url);
    cluster["certificate-authority"] = json!(null);
    let case = world
        .case("unserved-disbelieved")
        .with(&kubeconfig(&cluster, &world.user()));
    case.fails(&[&format!("through the proxy {url}"), "certificate"]);
}

fn plain_text(world: &World) {
    let port = free_port().unwrap();
    let arguments = [
        "proxy".to_owned(),
        format!("--port={port}"),
        "--accept-hosts=.*".to_owned(),
    ];
    let _plain = world
        .kubectl()
        .start("plain-text", &arguments, world.plane.folder())
        .unwrap();
    let to: SocketAddr = ([127, 0, 0, 1], port).into();
    wait::until(
        "kubectl proxy",
        Duration::from_secs(15),
        || match std::net::TcpStream::connect(to) {
            Ok(_) => Look::Met(()),
            Err(error) => Look::Saw(error.to_string()),
        },
    )
    .unwrap();
    let pki = world.pki("ca.crt").parent().unwrap().to_owned();
    for (name, credentials, userinfo) in [("open", None, ""), ("asking", Some(("u", "p")), "u:p@")] {
        let proxy = Proxy::start(Protocol::Http, to, credentials, &pki);
        let url = format!("http://{userinfo}{}", proxy.address);
        let cluster = json!({ "server": "http://kubernetes.test" });
        let config = kubeconfig(&by_url(&cluster, &url), &json!({}));
        both_ask(
            &world.case(&format!("plain-{name}")).with(&config),
            &proxy,
            "GET http://kubernetes.test",
        );
        let case = world
            .case(&format!("plain-environment-{name}"))
            .with(&kubeconfig(&cluster, &json!({})));
        both_ask(&case.set("http_proxy", &url), &proxy, "GET http://kubernetes.test");
    }
    let socks = Proxy::start(Protocol::Socks5, to, None, &pki);
    let cluster = by_url(
        &json!({ "server": "http://kubernetes.test" }),
        &format!("socks5://{}", socks.address),
    );
    let case = world.case("plain-socks").with(&kubeconfig(&cluster, &json!({})));
    both_ask(&case, &socks, "SOCKS kubernetes.test:80");
}

fn operator(world: &World) {
    world.kubectl().namespace("proxied").unwrap();
    let proxy = proxy(world, Protocol::Socks5, Some(("radar", "word")));
    let case = world.case("operator");
    let cluster = hidden(world, "kubernetes.test:6443");
    let path = case.file("kubeconfig", &kubeconfig(&cluster, &world.user()).to_string());
    let url = format!("socks5://radar:word@{}", proxy.address);
    let operator = Operator::new(world.operator.clone(), Some(&path), "runner:1", world.plane.folder())
        .named("proxied")
        .with_argument("--watch-namespace=proxied")
        .with_environment("HTTPS_PROXY", &url)
        .with_environment("NO_PROXY", "");
    let process = operator.start().unwrap();
    let mut case = case.set("KUBECONFIG", path).set("HTTPS_PROXY", &url);
    let (code, said) = case.operator_with(&["self-test", "--namespace", "proxied", "--timeout-seconds", "20"]);
    assert_eq!(code, 0, "{said}\noperator:\n{}", process.log());
    assert_eq!(proxy.asked(), ["SOCKS kubernetes.test:6443"]);
    let log = process.log();
    assert!(
        log.contains(&format!("socks5://{}", proxy.address)) && !log.contains("radar:word"),
        "{log}"
    );
    // A broken kubeconfig is an error, without a fallback to the pod's account.
    case = case.with_text("kind: Pod");
    let (code, said) = case.operator_with(&["self-test"]);
    assert!(code == 1 && said.contains("kind is \"Pod\""), "{said}");
    let (code, said) = case.operator_with(&["run", "--runner-image", "runner:1"]);
    assert!(
        code == 1 && said.contains("could not find the cluster") && said.contains("kind is"),
        "{said}"
    );
}
