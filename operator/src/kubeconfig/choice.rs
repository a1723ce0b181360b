//! Pure: which cluster, user and namespace of a kubeconfig are meant, and what contradicts itself in them.

use std::path::PathBuf;

use kube::config::{AuthInfo, Cluster, Context, ExecInteractiveMode, Kubeconfig};
use secrecy::SecretString;

use super::{Asked, ConnectionError, Environment, proxy::Proxy};

/// Versions of the credential plugins' protocol that kubectl speaks.
const EXEC_VERSIONS: [&str; 2] = [
    "client.authentication.k8s.io/v1",
    "client.authentication.k8s.io/v1beta1",
];
/// Of these the one in which a plugin may ask who sits at the terminal without saying so.
const EXEC_BETA: &str = "client.authentication.k8s.io/v1beta1";

/// What is meant.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The cluster; it has a server.
    pub cluster: Cluster,
    /// The user; without credentials by default.
    pub user: AuthInfo,
    /// The namespace, if given.
    pub namespace: Option<String>,
}

/// Chooses as kubectl does; nothing if nothing names a cluster.
///
/// # Errors
/// What is named is not there, or contradicts itself.
pub fn choose(
    kubeconfig: &Kubeconfig,
    asked: &Asked,
    environment: &Environment,
) -> Result<Option<Chosen>, ConnectionError> {
    let said = |flag: &Option<String>| flag.clone().filter(|text| !text.is_empty());
    let context = context(kubeconfig, said(&asked.context))?;
    let of_context =
        |name: fn(&Context) -> Option<String>| context.as_ref().and_then(name).filter(|name| !name.is_empty());

    let (name, by) = match said(&asked.cluster) {
        Some(name) => (Some(name), None),
        None => (of_context(|context| Some(context.cluster.clone())), Some("the context")),
    };
    let mut cluster = match name {
        None => Cluster::default(),
        Some(name) => find(&kubeconfig.clusters, &name, |named| {
            (&named.name, named.cluster.as_ref())
        })
        .ok_or(ConnectionError::NoSuch {
            kind: "cluster",
            name,
            by,
        })?,
    };
    overlay_cluster(&mut cluster, asked);
    cluster.server = cluster.server.or_else(|| environment.text("KUBERNETES_MASTER"));
    if cluster.server.is_none() {
        if context.is_none() && asked.cluster.is_none() {
            return Ok(None);
        }
        return Err(ConnectionError::Invalid(vec!["the cluster has no server".to_owned()]));
    }

    let user = match said(&asked.user) {
        Some(name) => Some(
            find(&kubeconfig.auth_infos, &name, |named| {
                (&named.name, named.auth_info.as_ref())
            })
            .ok_or(ConnectionError::NoSuch {
                kind: "user",
                name,
                by: None,
            })?,
        ),
        // kubectl ignores a user that does not exist, and goes on anonymously.
        None => of_context(|context| context.user.clone()).and_then(|name| {
            find(&kubeconfig.auth_infos, &name, |named| {
                (&named.name, named.auth_info.as_ref())
            })
        }),
    };
    let mut user = user.unwrap_or_default();
    overlay_user(&mut user, asked);
    let contradictions = [contradictions_of_cluster(&cluster), contradictions_of_user(&mut user)].concat();
    if !contradictions.is_empty() {
        return Err(ConnectionError::Invalid(contradictions));
    }
    Ok(Some(Chosen {
        namespace: said(&asked.namespace).or_else(|| of_context(|context| context.namespace.clone())),
        cluster,
        user,
    }))
}

fn context(kubeconfig: &Kubeconfig, asked: Option<String>) -> Result<Option<Context>, ConnectionError> {
    let (name, by) = match (asked, kubeconfig.current_context.clone()) {
        (Some(name), _) => (name, None),
        (None, Some(name)) => (name, Some("current-context")),
        (None, None) => return Ok(None),
    };
    find(&kubeconfig.contexts, &name, |named| {
        (&named.name, named.context.as_ref())
    })
    .map(Some)
    .ok_or(ConnectionError::NoSuch {
        kind: "context",
        name,
        by,
    })
}

fn find<N, T: Clone>(all: &[N], name: &str, parts: impl Fn(&N) -> (&String, Option<&T>)) -> Option<T> {
    all.iter().map(parts).find(|(called, _)| *called == name)?.1.cloned()
}

fn text(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}

fn overlay_cluster(cluster: &mut Cluster, asked: &Asked) {
    let authority = asked
        .certificate_authority
        .as_deref()
        .map(text)
        .filter(|path| !path.is_empty());
    // What is said about the certificate by a flag replaces all that the kubeconfig says about it.
    if authority.is_some() || asked.insecure_skip_tls_verify {
        cluster.insecure_skip_tls_verify = Some(asked.insecure_skip_tls_verify);
        cluster.certificate_authority = authority;
        cluster.certificate_authority_data = None;
    }
    let said = |flag: &Option<String>| flag.clone().filter(|text| !text.is_empty());
    let (server, name) = (said(&asked.server), said(&asked.tls_server_name));
    // The name of the kubeconfig is of its server.
    if server.is_some() || name.is_some() {
        cluster.tls_server_name = name;
    }
    cluster.server = server.or_else(|| cluster.server.take());
}

fn overlay_user(user: &mut AuthInfo, asked: &Asked) {
    let said = |flag: &Option<String>| flag.clone().filter(|text| !text.is_empty());
    if let Some(token) = said(&asked.token) {
        user.token = Some(SecretString::from(token));
        user.token_file = None;
    }
    let path = |flag: &Option<PathBuf>| flag.as_deref().map(text).filter(|path| !path.is_empty());
    if let Some(certificate) = path(&asked.client_certificate) {
        user.client_certificate = Some(certificate);
        user.client_certificate_data = None;
    }
    if let Some(key) = path(&asked.client_key) {
        user.client_key = Some(key);
        user.client_key_data = None;
    }
    user.impersonate = said(&asked.impersonate).or_else(|| user.impersonate.take());
    user.impersonate_uid = said(&asked.impersonate_uid).or_else(|| user.impersonate_uid.take());
    if !asked.impersonate_groups.is_empty() {
        user.impersonate_groups = Some(asked.impersonate_groups.clone());
    }
}

fn contradictions_of_cluster(cluster: &Cluster) -> Vec<String> {
    let mut found = Vec::new();
    if cluster.certificate_authority.is_some() && cluster.certificate_authority_data.is_some() {
        found.push(
            "cluster: certificate-authority and certificate-authority-data are both there: leave one out".to_owned(),
        );
    }
    let checks = cluster.certificate_authority.is_some() || cluster.certificate_authority_data.is_some();
    if checks && cluster.insecure_skip_tls_verify == Some(true) {
        found.push("cluster: insecure-skip-tls-verify goes with no certificate-authority: leave one out".to_owned());
    }
    if let Some(Err(what)) = cluster.proxy_url.as_deref().map(Proxy::of_cluster) {
        found.push(format!("cluster: proxy-url {what}"));
    }
    found
}

fn contradictions_of_user(user: &mut AuthInfo) -> Vec<String> {
    let mut found = Vec::new();
    let has_certificate = user.client_certificate.is_some() || user.client_certificate_data.is_some();
    if has_certificate {
        if user.client_certificate.is_some() && user.client_certificate_data.is_some() {
            found.push("user: client-certificate and client-certificate-data are both there: leave one out".to_owned());
        }
        if user.client_key.is_some() && user.client_key_data.is_some() {
            found.push("user: client-key and client-key-data are both there: leave one out".to_owned());
        }
        if user.client_key.is_none() && user.client_key_data.is_none() {
            found.push("user: a client certificate needs its client-key or client-key-data".to_owned());
        }
    }
    if user.token.is_some() && (user.username.is_some() || user.password.is_some()) {
        found.push("user: a token and a username or password are both there: leave one out".to_owned());
    }
    let as_somebody = user.impersonate.is_some();
    let with_more = user.impersonate_uid.is_some()
        || user
            .impersonate_groups
            .as_ref()
            .is_some_and(|groups| !groups.is_empty())
        || user
            .impersonate_user_extra
            .as_ref()
            .is_some_and(|extra| !extra.is_empty());
    if with_more && !as_somebody {
        found.push("user: uid, groups or extra to act with need a user to act as (as, --as)".to_owned());
    }
    let has_provider = user.auth_provider.is_some();
    if let Some(exec) = &mut user.exec {
        if has_provider {
            found.push("user: exec and auth-provider are both there: leave one out".to_owned());
        }
        if exec.command.is_none() {
            found.push("user: exec needs a command".to_owned());
        }
        let nameless = |env: &std::collections::HashMap<String, String>| env.get("name").is_none_or(String::is_empty);
        if exec.env.iter().flatten().any(nameless) {
            found.push("user: exec has an environment variable without a name".to_owned());
        }
        match exec.api_version.as_deref() {
            None => found.push(format!("user: exec needs an apiVersion, as {}", EXEC_VERSIONS[0])),
            Some(version) if !EXEC_VERSIONS.contains(&version) => found.push(format!(
                "user: exec has apiVersion {version:?}, which kubectl no longer speaks; there are {}",
                EXEC_VERSIONS.join(" and ")
            )),
            Some(version) => {
                if version == EXEC_BETA {
                    exec.interactive_mode.get_or_insert(ExecInteractiveMode::IfAvailable);
                }
                if exec.interactive_mode.is_none() {
                    found.push("user: exec needs an interactiveMode: Never, IfAvailable or Always".to_owned());
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::kubeconfig::file;

    const TWO: &str = "current-context: a
clusters:
- {name: a, cluster: {server: 'https://a', tls-server-name: other, certificate-authority: ca}}
- {name: b, cluster: {server: 'https://b'}}
- {name: none, cluster: {}}
users: [{name: a, user: {tokenFile: t}}, {name: b, user: {username: u, password: p}}]
contexts:
- {name: a, context: {cluster: a, user: a, namespace: radar}}
- {name: b, context: {cluster: b, user: b}}
- {name: lost, context: {cluster: lost, user: a}}
- {name: nobody, context: {cluster: b, user: lost}}
- {name: none, context: {cluster: none}}
";

    fn chosen(text: &str, asked: &Asked) -> Result<Option<Chosen>, ConnectionError> {
        let kubeconfig = file::parse(text, Path::new("/x")).unwrap();
        choose(&kubeconfig, asked, &Environment::default())
    }

    fn asked(of: impl FnOnce(&mut Asked)) -> Asked {
        let mut asked = Asked::default();
        of(&mut asked);
        asked
    }

    fn summary(asked: &Asked) -> String {
        match chosen(TWO, asked) {
            Ok(Some(chosen)) => format!(
                "{} {} {}",
                chosen.cluster.server.unwrap(),
                chosen.user.token_file.or(chosen.user.username).unwrap_or_default(),
                chosen.namespace.unwrap_or_default()
            ),
            Ok(None) => "none".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn flags_win_over_the_context_and_the_context_over_nothing() {
        let some = |text: &str| Some(text.to_owned());
        for (asked, expected) in [
            (Asked::default(), "https://a /x/t radar"),
            (asked(|asked| asked.context = some("b")), "https://b u "),
            (asked(|asked| asked.context = some("")), "https://a /x/t radar"),
            (asked(|asked| asked.cluster = some("b")), "https://b /x/t radar"),
            (asked(|asked| asked.user = some("b")), "https://a u radar"),
            (asked(|asked| asked.namespace = some("")), "https://a /x/t radar"),
            (asked(|asked| asked.namespace = some("other")), "https://a /x/t other"),
            (asked(|asked| asked.server = some("https://c")), "https://c /x/t radar"),
            (asked(|asked| asked.context = some("nobody")), "https://b  "),
            (
                asked(|asked| asked.context = some("lost")),
                "there is no cluster \"lost\" in the kubeconfig, which the context names",
            ),
            (
                asked(|asked| asked.context = some("none")),
                "the kubeconfig can't be used: the cluster has no server",
            ),
            (
                asked(|asked| asked.context = some("gone")),
                "there is no context \"gone\" in the kubeconfig",
            ),
            (
                asked(|asked| asked.cluster = some("gone")),
                "there is no cluster \"gone\" in the kubeconfig",
            ),
            (
                asked(|asked| asked.user = some("gone")),
                "there is no user \"gone\" in the kubeconfig",
            ),
        ] {
            assert_eq!(summary(&asked), expected, "{asked:?}");
        }
        assert!(chosen("", &Asked::default()).unwrap().is_none());
        let gone = chosen("current-context: gone", &Asked::default())
            .unwrap_err()
            .to_string();
        assert!(
            gone.contains("\"gone\" in the kubeconfig, which current-context names"),
            "{gone}"
        );
        let server = asked(|asked| asked.server = some("https://c"));
        assert!(chosen("", &server).unwrap().is_some());
        let master = Environment::of([("KUBERNETES_MASTER", "http://m")]);
        let by_master = choose(&Kubeconfig::default(), &Asked::default(), &master)
            .unwrap()
            .unwrap();
        assert_eq!(by_master.cluster.server.as_deref(), Some("http://m"));
    }

    #[test]
    fn a_flag_about_the_certificate_replaces_what_the_kubeconfig_says_about_it() {
        let cluster = |asked: &Asked| chosen(TWO, asked).unwrap().unwrap().cluster;
        let unchecked = cluster(&asked(|asked| asked.insecure_skip_tls_verify = true));
        assert_eq!(
            (unchecked.insecure_skip_tls_verify, unchecked.certificate_authority),
            (Some(true), None)
        );
        let other = cluster(&asked(|asked| asked.certificate_authority = Some("/other".into())));
        assert_eq!(other.certificate_authority.as_deref(), Some("/other"));
        assert_eq!(other.tls_server_name.as_deref(), Some("other"));
        let elsewhere = cluster(&asked(|asked| asked.server = Some("https://c".to_owned())));
        assert_eq!(elsewhere.tls_server_name, None);
    }

    #[test]
    fn what_contradicts_itself_is_told_all_at_once() {
        for (cluster, user, expected) in [
            (
                "certificate-authority: a, certificate-authority-data: b",
                "",
                &["are both there"][..],
            ),
            (
                "certificate-authority: a, insecure-skip-tls-verify: true",
                "",
                &["insecure-skip-tls-verify goes with no"],
            ),
            ("proxy-url: 'ftp://x'", "", &["proxy-url must be http://HOST:PORT"]),
            ("", "token: t, username: u", &["a token and a username"]),
            ("", "client-certificate: c", &["needs its client-key"]),
            (
                "",
                "client-certificate: c, client-certificate-data: d, client-key: k, client-key-data: l",
                &[
                    "client-certificate and client-certificate-data",
                    "client-key and client-key-data",
                ],
            ),
            ("", "as-groups: [g]", &["need a user to act as"]),
            ("", "exec: {}", &["exec needs a command", "exec needs an apiVersion"]),
            (
                "",
                "exec: {command: c, apiVersion: client.authentication.k8s.io/v1}",
                &["exec needs an interactiveMode"],
            ),
            (
                "",
                "exec: {command: c, apiVersion: client.authentication.k8s.io/v1alpha1}",
                &["no longer speaks"],
            ),
            (
                "",
                "exec: {command: c, apiVersion: client.authentication.k8s.io/v1beta1, env: [{value: x}]}",
                &["without a name"],
            ),
            (
                "",
                "exec: {command: c, apiVersion: client.authentication.k8s.io/v1beta1}, auth-provider: {name: p}",
                &["leave one out"],
            ),
            (
                "",
                "token: t, tokenFile: f, client-certificate: c, client-key: k, as: a, as-groups: [g]",
                &[],
            ),
            (
                "",
                "exec: {command: c, apiVersion: client.authentication.k8s.io/v1beta1}",
                &[],
            ),
        ] {
            let text = format!(
                "current-context: x\ncontexts: [{{name: x, context: {{cluster: x, user: x}}}}]\n\
                 clusters: [{{name: x, cluster: {{server: s, {cluster}}}}}]\nusers: [{{name: x, user: {{{user}}}}}]"
            );
            let found = match chosen(&text, &Asked::default()) {
                Ok(_) => Vec::new(),
                Err(ConnectionError::Invalid(found)) => found,
                Err(error) => panic!("{error}"),
            };
            assert_eq!(found.len(), expected.len(), "{cluster} {user}: {found:?}");
            for expected in expected {
                assert!(
                    found.iter().any(|found| found.contains(expected)),
                    "{cluster} {user}: {found:?}"
                );
            }
        }
    }
}
