//! Which files are read, what they may look like, and which namespace they mean.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::world::{OF_DEFAULT, OF_RADAR, Test, World, kubeconfig};

pub const TESTS: &[Test] = &[
    ("files_of_the_list_that_are_not_there_are_left_out", missing_files),
    ("a_file_that_a_flag_names_must_be_there", explicit_file),
    ("an_empty_variable_is_as_if_it_were_not_set", empty_variable),
    ("of_several_files_the_first_that_says_something_holds", merged),
    ("relative_paths_are_of_the_folder_of_their_file", relative_paths),
    ("an_empty_namespace_is_none", empty_namespace),
    ("the_namespace_is_that_of_the_flag_then_of_the_context", namespaces),
    ("context_cluster_and_user_can_be_chosen_by_flags", choice),
    ("json_aliases_unknown_fields_and_nulls_are_a_kubeconfig", shapes),
    ("what_is_no_kubeconfig_is_told_with_its_place", broken),
];

fn list(paths: &[PathBuf]) -> std::ffi::OsString {
    std::env::join_paths(paths).unwrap()
}

fn whole(world: &World) -> Value {
    kubeconfig(&world.cluster(), &world.user())
}

fn missing_files(world: &World) {
    let case = world.case("missing-files");
    let file = case.file("there", &whole(world).to_string());
    let none = case.folder.join("none");
    let case = case.set(
        "KUBECONFIG",
        list(&[none.clone(), PathBuf::new(), file.clone(), PathBuf::new(), none.clone()]),
    );
    case.works(OF_DEFAULT);
    // All of them: as without, and not the home's.
    let home = case.folder.join("home");
    case.file("home/.kube/config", &whole(world).to_string());
    let case = case
        .set("HOME", home)
        .set("KUBECONFIG", list(&[none.clone(), PathBuf::new()]));
    case.fails(&["no cluster", &format!("{}: not there", none.display())]);
    let case = case.set("KUBECONFIG", ":");
    case.fails(&["no kubeconfig names a cluster"]);
    let case = case.set("KUBECONFIG", "").set("HOME", case_home(&file));
    case.fails(&["no kubeconfig names a cluster"]);
}

/// A home in which there is no kubeconfig.
fn case_home(beside: &std::path::Path) -> PathBuf {
    beside.with_file_name("empty-home")
}

fn explicit_file(world: &World) {
    let case = world.case("explicit-file").with(&whole(world));
    let none = case.folder.join("none");
    let case = case.flag(format!("--kubeconfig={}", none.display()));
    case.fails(&["can't read the kubeconfig", "none"]);
    let case = world
        .case("explicit-file-empty")
        .with(&whole(world))
        .flag("--kubeconfig=");
    case.works(OF_DEFAULT);
    let case = world.case("explicit-file-there").set("KUBECONFIG", none);
    let there = case.file("there", &whole(world).to_string());
    case.flag("--kubeconfig").flag(there).works(OF_DEFAULT);
}

fn empty_variable(world: &World) {
    let case = world.case("empty-variable").set("KUBECONFIG", "");
    case.file("home/.kube/config", &whole(world).to_string());
    let home = case.folder.join("home");
    let case = case.set("HOME", home);
    case.works(OF_DEFAULT);
    case.unset("KUBECONFIG").works(OF_DEFAULT);
    world
        .case("no-home")
        .with(&whole(world))
        .unset("HOME")
        .works(OF_DEFAULT);
}

fn merged(world: &World) {
    let case = world.case("merged");
    let first = case.file(
        "first",
        &json!({
            "current-context": "first",
            "clusters": [{ "name": "x", "cluster": world.cluster() }],
            "contexts": [{ "name": "first", "context": { "cluster": "x", "user": "x", "namespace": "radar" } }],
        })
        .to_string(),
    );
    let second = case.file(
        "second",
        &json!({
            "current-context": "second",
            "clusters": [{ "name": "x", "cluster": { "server": "https://127.0.0.1:1" } }],
            "users": [{ "name": "x", "user": world.user() }],
            "contexts": [{ "name": "second", "context": { "cluster": "x", "user": "x" } }],
        })
        .to_string(),
    );
    let case = case.set("KUBECONFIG", list(&[first.clone(), second.clone()]));
    case.works(OF_RADAR);
    let case = case.flag("--context=second");
    case.works(OF_DEFAULT);
    case.set("KUBECONFIG", list(&[second, first]))
        .fails(&["does not answer"]);
}

fn relative_paths(world: &World) {
    let case = world.case("relative-paths");
    for file in ["ca.crt", "admin.crt", "admin.key"] {
        case.file(&format!("pki/{file}"), &world.pem(file));
    }
    let text = kubeconfig(
        &json!({ "server": world.plane.server(), "certificate-authority": "../pki/ca.crt" }),
        &json!({ "client-certificate": "../pki/admin.crt", "client-key": "../pki/admin.key" }),
    )
    .to_string();
    case.file("deep/kubeconfig", &text);
    case.file("wrong", &text);
    let case = case.set("KUBECONFIG", "deep/kubeconfig");
    case.works(OF_DEFAULT);
    case.set("KUBECONFIG", "wrong").fails(&["No such file"]);
    let mut tilde = kubeconfig(&world.cluster(), &json!({ "tokenFile": "~/token" }));
    tilde["clusters"][0]["cluster"]["certificate-authority"] = json!("~/ca.crt");
    world.case("tilde").with(&tilde).fails(&["~ is for shells"]);
}

fn in_namespace(world: &World, namespace: &Value) -> Value {
    let mut kubeconfig = whole(world);
    kubeconfig["contexts"][0]["context"]["namespace"] = namespace.clone();
    kubeconfig
}

fn empty_namespace(world: &World) {
    for (name, namespace, flag, expected) in [
        ("empty-flag", json!(null), "", OF_DEFAULT),
        ("empty-flag-over-context", json!("radar"), "", OF_RADAR),
        ("empty-in-context", json!(""), "", OF_DEFAULT),
    ] {
        let case = world.case(name).with(&in_namespace(world, &namespace));
        case.works(expected);
        let case = case.flag("-n").flag(flag);
        case.works(expected);
        let (code, said) = case.plugin_with(&["trigger", expected[0]]);
        assert_eq!(code, 0, "{name}: {said}");
    }
}

fn namespaces(world: &World) {
    let case = world
        .case("namespace-of-context")
        .with(&in_namespace(world, &json!("radar")));
    case.works(OF_RADAR);
    case.flag("--namespace=default").works(OF_DEFAULT);
    let case = world
        .case("namespace-of-flag")
        .with(&whole(world))
        .flag("-n")
        .flag("radar");
    case.works(OF_RADAR);
}

fn choice(world: &World) {
    let mut two = whole(world);
    let clusters = json!([
        { "name": "x", "cluster": world.cluster() },
        { "name": "closed", "cluster": { "server": "https://127.0.0.1:1", "tls-server-name": "other" } },
    ]);
    two["clusters"] = clusters;
    two["users"] = json!([{ "name": "x", "user": world.user() }, { "name": "stranger", "user": { "token": "wrong" } }]);
    two["contexts"] = json!([
        { "name": "x", "context": { "cluster": "x", "user": "x" } },
        { "name": "closed", "context": { "cluster": "closed", "user": "x" } },
        { "name": "lost", "context": { "cluster": "lost", "user": "x" } },
    ]);
    let with = |name: &str, flags: &[String]| {
        let case = world.case(&format!("choice-{name}")).with(&two);
        flags.iter().fold(case, |case, flag| case.flag(flag))
    };
    let flags = |flags: &[&str]| flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>();
    with("none", &[]).works(OF_DEFAULT);
    with("closed", &flags(&["--context=closed"])).fails(&["does not answer"]);
    with("cluster", &flags(&["--context=closed", "--cluster=x"])).works(OF_DEFAULT);
    with("user", &flags(&["--user=stranger"])).fails(&["refuses the credentials"]);
    with(
        "token",
        &[format!("--token={}", world.token), "--user=stranger".to_owned()],
    )
    .works(OF_DEFAULT);
    with("gone", &flags(&["--context=gone"])).fails(&["no context \"gone\"", "get-contexts"]);
    with("gone-cluster", &flags(&["--cluster=gone"])).fails(&["no cluster \"gone\"", "get-clusters"]);
    with("gone-user", &flags(&["--user=gone"])).fails(&["no user \"gone\"", "get-users"]);
    with("lost", &flags(&["--context=lost"])).fails(&["no cluster \"lost\"", "which the context names"]);
    let server = [
        "--context=closed".to_owned(),
        format!("--server={}", world.plane.server()),
        format!("--certificate-authority={}", world.pki("ca.crt").display()),
    ];
    with("server", &server).works(OF_DEFAULT);
    let unchecked = [
        "-s".to_owned(),
        world.plane.server(),
        "--insecure-skip-tls-verify".to_owned(),
    ];
    with("unchecked", &unchecked).works(OF_DEFAULT);
    let certificate = [
        "--user=stranger".to_owned(),
        format!("--client-certificate={}", world.pki("admin.crt").display()),
        format!("--client-key={}", world.pki("admin.key").display()),
    ];
    let mut nobody = two.clone();
    nobody["users"][1]["user"] = json!({});
    let case = world.case("choice-certificate").with(&nobody);
    certificate
        .iter()
        .fold(case, |case, flag| case.flag(flag))
        .works(OF_DEFAULT);
    let mut none = two.clone();
    none["current-context"] = json!("gone");
    world
        .case("choice-current")
        .with(&none)
        .fails(&["no context \"gone\"", "which current-context names"]);
    // Without any context cluster and user can be named.
    none["current-context"] = json!(null);
    let case = world.case("choice-no-context").with(&none);
    case.flag("--cluster=x").flag("--user=x").works(OF_DEFAULT);
}

fn shapes(world: &World) {
    let server = world.plane.server();
    let (authority, token) = (world.pki("ca.crt").display().to_string(), &world.token);
    let yaml = format!(
        "\u{feff}# Aliases, merges and what other programs write.\r\nmore: [1, {{a: b}}]\r\npreferences: {{colors: yes}}\r\n\
         x-base: &base\r\n  certificate-authority: {authority}\r\n  extensions: null\r\n\
         clusters:\r\n- name: &name x\r\n  cluster:\r\n    <<: *base\r\n    server: {server}\r\n    more: 1\r\n\
         - {{name: unused}}\r\nusers:\r\n- name: *name\r\n  user: {{token: {token}, auth-provider: null, exec: ~}}\r\n\
         - name: unused\r\ncontexts:\r\n- {{name: *name, context: {{cluster: x, user: x, namespace: null}}}}\r\n\
         - {{name: unused, context: {{user: x}}}}\r\ncurrent-context: x\r\n"
    );
    world.case("shape-yaml").with_text(&yaml).works(OF_DEFAULT);
    world
        .case("shape-json")
        .with_text(&format!("{:#}", whole(world)))
        .works(OF_DEFAULT);
    // kubectl reads the first document alone.
    let two = format!("{}\n---\ncurrent-context: other\n", whole(world));
    world.case("shape-documents").with_text(&two).works(OF_DEFAULT);
    // Of YAML 1.1 are the words, too.
    let words = format!(
        "clusters: [{{name: x, cluster: {{server: '{server}', insecure-skip-tls-verify: yes}}}}]\n\
         users: [{{name: x, user: {{token: {token}}}}}]\ncontexts: [{{name: 'on', context: {{cluster: x, user: x}}}}]\n\
         current-context: 'on'\n"
    );
    world.case("shape-words").with_text(&words).works(OF_DEFAULT);
    let unquoted = words.replace("current-context: 'on'", "current-context: on");
    world
        .case("shape-unquoted")
        .with_text(&unquoted)
        .fails(&["current-context", "boolean"]);
}

fn broken(world: &World) {
    let folder = world.case("broken-folder");
    let path = folder.folder.clone();
    folder.set("KUBECONFIG", path).fails(&["can't read the kubeconfig"]);
    for (name, text, words) in [
        ("empty", "", &["no kubeconfig names a cluster"][..]),
        ("comment", "# nothing\n", &["no kubeconfig names a cluster"]),
        ("list", "[]", &["is no mapping"]),
        ("cut", "clusters: [", &["kubeconfig: is no kubeconfig", "line"]),
        ("kind", "kind: Pod", &["kind is \"Pod\""]),
        (
            "twice",
            "clusters: [{name: x, cluster: {server: a}}, {name: x, cluster: {server: b}}]",
            &["\"x\" is there twice"],
        ),
        (
            "type",
            "users: [{name: x, user: {token: 12}}]",
            &["users[0].user.token"],
        ),
        (
            "server",
            "current-context: x\ncontexts: [{name: x, context: {cluster: x}}]\nclusters: [{name: x, cluster: {certificate-authority-data: eA==}}]",
            &["the cluster has no server"],
        ),
    ] {
        world.case(&format!("broken-{name}")).with_text(text).fails(words);
    }
}
