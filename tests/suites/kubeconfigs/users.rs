//! Users of kubeconfigs: tokens, certificates, credential plugins, impersonation.

use std::{os::unix::fs::PermissionsExt, path::Path};

use serde_json::{Value, json};

use crate::world::{Case, OF_DEFAULT, Test, World, base64, kubeconfig};

pub const TESTS: &[Test] = &[
    (
        "a_token_file_may_end_in_a_line_break_and_holds_over_a_token",
        token_files,
    ),
    (
        "certificates_are_taken_from_files_and_from_data_in_every_form",
        certificates,
    ),
    ("what_contradicts_itself_is_refused", contradictions),
    ("a_credential_plugin_is_run_once_for_each_command", plugin_once),
    (
        "a_credential_plugin_may_print_a_certificate_and_is_told_of_the_cluster",
        plugin_certificate,
    ),
    ("a_credential_plugin_that_fails_is_named", plugin_fails),
    ("a_provider_of_tokens_is_what_it_is_for_kubectl", providers),
    ("one_acts_as_whom_the_kubeconfig_or_a_flag_says", impersonation),
    ("nobody_and_a_password_are_refused_with_what_to_do", nobody),
];

fn with(world: &World, user: &Value) -> String {
    kubeconfig(&world.cluster(), user).to_string()
}

fn token_files(world: &World) {
    let token = format!("\n  {}\r\n\n", world.token);
    let case = world.case("token-file");
    case.file("token", &token);
    let text = with(world, &json!({ "tokenFile": "token" }));
    case.with_text(&text).works(OF_DEFAULT);
    let case = world.case("token-file-over-token");
    case.file("token", &token);
    let text = with(world, &json!({ "tokenFile": "token", "token": "wrong" }));
    case.with_text(&text).works(OF_DEFAULT);
    let text = with(world, &json!({ "tokenFile": "none", "token": world.token }));
    world.case("token-without-file").with_text(&text).works(OF_DEFAULT);
    let text = with(world, &json!({ "tokenFile": "none" }));
    world
        .case("token-file-missing")
        .with_text(&text)
        .fails(&["can't read the token", "none"]);
    let case = world.case("token-file-empty");
    case.file("token", "\n");
    case.with_text(&with(world, &json!({ "tokenFile": "token" })))
        .plugin_fails(&["it is empty"]);
}

fn certificates(world: &World) {
    let (certificate, key) = (world.pem("admin.crt"), world.pem("admin.key"));
    let files = json!({ "client-certificate": world.pki("admin.crt"), "client-key": world.pki("admin.key") });
    world
        .case("certificate-files")
        .with_text(&with(world, &files))
        .works(OF_DEFAULT);
    let data = json!({ "client-certificate-data": base64(&certificate), "client-key-data": base64(&key) });
    world
        .case("certificate-data")
        .with_text(&with(world, &data))
        .works(OF_DEFAULT);
    let mixed = json!({ "client-certificate": world.pki("admin.crt"), "client-key-data": base64(&key) });
    world
        .case("certificate-mixed")
        .with_text(&with(world, &mixed))
        .works(OF_DEFAULT);
    // Line ends of Windows, words around, and both in one file, as the kubelet has them.
    let case = world.case("certificate-one-file");
    let both = format!("Bag Attributes\n{key}\n{certificate}").replace('\n', "\r\n");
    case.file("both.pem", &both);
    let user = json!({ "client-certificate": "both.pem", "client-key": "both.pem" });
    case.with_text(&with(world, &user)).works(OF_DEFAULT);
    let stranger = json!({ "client-certificate": world.pki("admin.crt"), "client-key": world.pki("apiserver.key") });
    world
        .case("certificate-of-another-key")
        .with_text(&with(world, &stranger))
        .fails(&["client certificate is of no use"]);
    let none = json!({ "client-certificate-data": base64("none"), "client-key-data": base64("none") });
    world
        .case("certificate-none")
        .with_text(&with(world, &none))
        .fails(&["no certificate in PEM"]);
    let no_base64 = json!({ "client-certificate-data": "%", "client-key-data": "%" });
    world
        .case("certificate-no-base64")
        .with_text(&with(world, &no_base64))
        .fails(&["is no base64"]);
}

fn contradictions(world: &World) {
    let file = world.pki("admin.crt");
    for (name, user, word) in [
        (
            "token-and-password",
            json!({ "token": world.token, "username": "u", "password": "p" }),
            "a token and a username",
        ),
        ("no-key", json!({ "client-certificate": file }), "needs its client-key"),
        (
            "both-certificates",
            json!({ "client-certificate": file, "client-certificate-data": "eA==", "client-key": file }),
            "client-certificate and client-certificate-data",
        ),
        (
            "groups-alone",
            json!({ "token": world.token, "as-groups": ["system:masters"] }),
            "need a user to act as",
        ),
        (
            "exec-and-provider",
            json!({ "exec": exec(Path::new("/bin/true")), "auth-provider": { "name": "oidc" } }),
            "exec and auth-provider",
        ),
        (
            "exec-version",
            json!({ "exec": { "command": "true", "apiVersion": "client.authentication.k8s.io/v1alpha1", "interactiveMode": "Never" } }),
            "v1alpha1",
        ),
        (
            "exec-mode",
            json!({ "exec": { "command": "true", "apiVersion": "client.authentication.k8s.io/v1" } }),
            "interactiveMode",
        ),
        (
            "exec-nothing",
            json!({ "exec": { "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never" } }),
            "needs a command",
        ),
    ] {
        world
            .case(&format!("contradiction-{name}"))
            .with_text(&with(world, &user))
            .fails(&[word]);
    }
}

fn exec(command: &Path) -> Value {
    json!({ "command": command, "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "IfAvailable" })
}

/// Writes a credential plugin that counts its runs and prints `status`.
fn plugin(case: &Case<'_>, version: &str, status: &Value) {
    let credential = json!({ "kind": "ExecCredential", "apiVersion": version, "status": status });
    case.file("credential.json", &credential.to_string());
    let folder = case.folder.display();
    let script = format!(
        "#!/bin/sh\necho run >> '{folder}/runs'\nprintf '%s' \"$KUBERNETES_EXEC_INFO\" > '{folder}/told'\ncat '{folder}/credential.json'\n"
    );
    let path = case.file("bin/login", &script);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// How often the plugin has been run since the last time that it was asked.
fn runs(case: &Case<'_>) -> usize {
    let path = case.folder.join("runs");
    let count = std::fs::read_to_string(&path).unwrap_or_default().lines().count();
    let _ = std::fs::remove_file(path);
    count
}

fn plugin_once(world: &World) {
    const VERSION: &str = "client.authentication.k8s.io/v1";
    for (name, expires) in [("forever", json!(null)), ("an-hour", json!("2999-01-01T00:00:00Z"))] {
        let case = world.case(&format!("exec-once-{name}"));
        plugin(
            &case,
            VERSION,
            &json!({ "token": world.token, "expirationTimestamp": expires }),
        );
        let case = case.with(&kubeconfig(
            &world.cluster(),
            &json!({ "exec": exec(Path::new("bin/login")) }),
        ));
        assert!(case.kubectl().names.is_some());
        assert_eq!(runs(&case), 1, "kubectl");
        for sub_command in [
            &["status"][..],
            &["status", "-o", "json"],
            &["runs", "of-default"],
            &["explain", "of-default"],
            &["doctor"],
            &["trigger", "of-default"],
        ] {
            let (code, said) = case.plugin_with(sub_command);
            assert!(code < 2, "{said}");
            assert_eq!(runs(&case), 1, "{sub_command:?}: {said}");
        }
        let (_, offered) = case.plugin_with(&["__complete", "runs", "of-"]);
        assert!(offered.contains("of-default"), "{offered}");
        assert_eq!(runs(&case), 1, "completion");
    }
    // Found by its name on the PATH, with its version of old, and printing YAML.
    let case = world.case("exec-by-name");
    plugin(
        &case,
        "client.authentication.k8s.io/v1beta1",
        &json!({ "token": world.token }),
    );
    case.file(
        "credential.json",
        &format!(
            "apiVersion: client.authentication.k8s.io/v1beta1\nkind: ExecCredential\nstatus:\n  token: {}\n",
            world.token
        ),
    );
    let user = json!({ "exec": { "command": "login", "apiVersion": "client.authentication.k8s.io/v1beta1", "env": [{ "name": "A", "value": "b" }] } });
    let path = format!("{}:/usr/bin:/bin", case.folder.join("bin").display());
    let case = case.with(&kubeconfig(&world.cluster(), &user)).set("PATH", path);
    case.works(OF_DEFAULT);
    // Refused credentials are not requested again: the user can run the command again.
    let case = world.case("exec-refused");
    plugin(&case, VERSION, &json!({ "token": "wrong" }));
    let case = case.with(&kubeconfig(
        &world.cluster(),
        &json!({ "exec": exec(Path::new("bin/login")) }),
    ));
    case.fails(&["refuses the credentials"]);
    let _ = runs(&case);
    case.plugin_fails(&["refuses the credentials"]);
    assert_eq!(runs(&case), 1);
}

fn plugin_certificate(world: &World) {
    let case = world.case("exec-certificate");
    let status = json!({ "clientCertificateData": world.pem("admin.crt"), "clientKeyData": world.pem("admin.key") });
    plugin(&case, "client.authentication.k8s.io/v1", &status);
    let mut exec = exec(Path::new("./bin/login"));
    exec["provideClusterInfo"] = json!(true);
    let mut cluster = world.cluster();
    cluster["extensions"] =
        json!([{ "name": "client.authentication.k8s.io/exec", "extension": { "audience": "radar" } }]);
    let case = case.with(&kubeconfig(&cluster, &json!({ "exec": exec })));
    let told = || {
        let told: Value = serde_json::from_str(&std::fs::read_to_string(case.folder.join("told")).unwrap()).unwrap();
        told
    };
    assert!(case.kubectl().names.is_some());
    let by_kubectl = told();
    let plugin = case.plugin();
    assert!(plugin.names.is_some(), "{}", plugin.said);
    assert_eq!(told(), by_kubectl);
    assert_eq!(by_kubectl["spec"]["cluster"]["config"]["audience"], "radar");
    assert_eq!(runs(&case), 2);
}

fn plugin_fails(world: &World) {
    let with_exec = |name: &str, exec: &Value| {
        world
            .case(&format!("exec-{name}"))
            .with(&kubeconfig(&world.cluster(), &json!({ "exec": exec })))
    };
    let mut missing = exec(Path::new("radar-login-that-nobody-has"));
    missing["installHint"] = json!("Get it with:\n\n  brew install radar-login");
    let case = with_exec("missing", &missing);
    case.fails(&[
        "radar-login-that-nobody-has is not there",
        "Get it with:",
        "brew install radar-login",
    ]);
    let said = case.plugin().said;
    assert!(
        !said.contains("certificates") && !said.contains("cluster-info"),
        "{said}"
    );
    with_exec("missing-path", &exec(Path::new("bin/none"))).fails(&["exec-missing-path/bin/none is not there"]);
    let mut always = exec(Path::new("true"));
    always["interactiveMode"] = json!("Always");
    with_exec("always", &always).fails(&["wants to ask at a terminal"]);
    with_exec("false", &exec(Path::new("false"))).fails(&["plugin false failed (exit status: 1)"]);
    with_exec("silent", &exec(Path::new("true"))).fails(&["plugin true printed no credential"]);
    let case = world.case("exec-other-version");
    plugin(
        &case,
        "client.authentication.k8s.io/v1beta1",
        &json!({ "token": world.token }),
    );
    let user = json!({ "exec": exec(Path::new("bin/login")) });
    case.with(&kubeconfig(&world.cluster(), &user))
        .fails(&["client.authentication.k8s.io/v1beta1", "update the plugin"]);
    // A client certificate needs no plugin.
    let mut user = json!({ "client-certificate": world.pki("admin.crt"), "client-key": world.pki("admin.key") });
    user["exec"] = exec(Path::new("radar-login-that-nobody-has"));
    world
        .case("exec-not-needed")
        .with(&kubeconfig(&world.cluster(), &user))
        .works(OF_DEFAULT);
}

/// A token without a signature whose `exp` is `second`.
fn unsigned(second: i64) -> String {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
    format!(
        "{}.{}.x",
        BASE64.encode("{}"),
        BASE64.encode(format!("{{\"exp\":{second}}}"))
    )
}

fn providers(world: &World) {
    let provider = |name: &str, config: &Value| json!({ "auth-provider": { "name": name, "config": config } });
    for (name, config, words) in [
        ("gcp", json!({}), &["gke-gcloud-auth-plugin"][..]),
        ("azure", json!(null), &["kubelogin"]),
        ("somebody", json!({}), &["\"somebody\" is none of kubectl's"]),
        ("oidc", json!({ "client-id": "x" }), &["needs idp-issuer-url"]),
    ] {
        let text = with(world, &provider(name, &config));
        world.case(&format!("provider-{name}")).with_text(&text).fails(words);
    }
    let issued = |token: &str| json!({ "idp-issuer-url": "https://127.0.0.1:1", "client-id": "x", "id-token": token });
    // The token of a service account is one in the same form: one that holds is sent as it is.
    let text = with(world, &provider("oidc", &issued(&world.token)));
    world.case("provider-oidc-holds").with_text(&text).works(OF_DEFAULT);
    let text = with(world, &provider("oidc", &issued(&unsigned(1_000_000_000))));
    world
        .case("provider-oidc-expired")
        .with_text(&text)
        .fails(&["expired at 2001-09-09", "any kubectl command"]);
    let text = with(world, &provider("oidc", &issued(&unsigned(4_000_000_000))));
    world
        .case("provider-oidc-unknown")
        .with_text(&text)
        .fails(&["refuses the credentials"]);
}

fn impersonation(world: &World) {
    let of = |more: Value| {
        let mut user = world.user();
        for (key, value) in more.as_object().unwrap() {
            user[key] = value.clone();
        }
        kubeconfig(&world.cluster(), &user)
    };
    world
        .case("as-nobody")
        .with(&of(json!({ "as": "nobody" })))
        .fails(&["not allowed", "\"nobody\""]);
    world
        .case("as-master")
        .with(&of(json!({ "as": "somebody", "as-groups": ["system:masters"] })))
        .works(OF_DEFAULT);
    let whole = json!({ "as": "somebody", "as-uid": "7", "as-groups": ["system:masters"], "as-user-extra": { "a.test/B": ["c"] } });
    world.case("as-whole").with(&of(whole)).works(OF_DEFAULT);
    let case = world.case("as-flag").with(&of(json!({}))).flag("--as=nobody");
    case.fails(&["not allowed", "\"nobody\""]);
    case.flag("--as-group=system:masters")
        .flag("--as-uid=7")
        .works(OF_DEFAULT);
    world
        .case("as-group-alone")
        .with(&of(json!({})))
        .flag("--as-group=x")
        .fails(&["need a user to act as"]);
}

fn nobody(world: &World) {
    world
        .case("nobody")
        .with(&kubeconfig(&world.cluster(), &json!({})))
        .fails(&["could not list the policies"]);
    let mut lost = kubeconfig(&world.cluster(), &json!({}));
    lost["users"] = json!([]);
    world
        .case("lost-user")
        .with(&lost)
        .fails(&["could not list the policies"]);
    let password = json!({ "username": "u", "password": "p" });
    world
        .case("password")
        .with(&kubeconfig(&world.cluster(), &password))
        .fails(&["could not list the policies"]);
}
